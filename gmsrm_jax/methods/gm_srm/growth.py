"""Progressive growing (arXiv 1710.10196): a stage begins with the weights of a smaller one.

With StyleGAN2's networks nothing is faded in. The memory's image is a sum over its resolutions, so
new ones whose layers to RGB are zero leave it as the smaller memory's, up-sampled. The
discriminator has all its levels but those next to the picture. So is the output of a stage 2 with a
pyramid: the new output convolution is zero, and so is what the new levels of the encoder and their
features add to what the smaller network had.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Growth
from gmsrm_jax.methods.gm_srm.fields import check_growth

_ADDED = ("output_", "join_")  # what a level adds to what there is without it
_RGB = "rgb_"  # the same in the memory; its style is no part of the sum, and zeros there would stay
_FROM_RGB = "from_rgb"  # the same name at every size, but behind it is another level


def growth(config: ConfigDict, stage: str, *items: str) -> Growth | None:
    """What a stage takes of a smaller one's state, where its `grow_from` names one."""
    workdir, field = config[stage].grow_from, f"config.{stage}.grow_from"
    check = functools.partial(check_growth, config, stage=stage)
    return Growth(workdir, items, check, field) if workdir else None


def taken_over(drawn: Any, smaller: Any) -> set[tuple[str, ...]]:
    """Paths of the weights that a larger network takes from a smaller one.

    They are those of the same name and shape, but for the layer that reads RGB pictures, and
    kernels that see more channels behind the same ones.
    """
    drawn, smaller = (traverse_util.flatten_dict(tree) for tree in (drawn, smaller))
    return {
        path
        for path, weight in drawn.items()
        if path in smaller and _FROM_RGB not in path and _fits(smaller[path].shape, weight.shape)
    }


def _fits(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    if len(small) < 4 or len(small) != len(large):
        return small == large
    return small[:-2] == large[:-2] and small[-1] == large[-1] and small[-2] <= large[-2]


def _to_rgb(path: tuple[str, ...]) -> bool:
    return len(path) > 1 and path[-2].startswith(_RGB)


def grow(drawn: Any, smaller: Any) -> Any:
    """Weights of a larger network that begins as a smaller one.

    Args:
        drawn: parameters of the larger network, as at a start from nothing.
        smaller: parameters of the smaller one.

    Returns:
        `drawn`, with the smaller network's weights where `taken_over` says, and zeros in new
        layers that add to what there is without them, and for new input channels.
    """
    taken, source = taken_over(drawn, smaller), traverse_util.flatten_dict(smaller)
    grown: dict[tuple[str, ...], jax.Array] = {}
    for path, weight in traverse_util.flatten_dict(drawn).items():
        if path in taken and source[path].shape == weight.shape:
            grown[path] = jnp.copy(source[path])
        elif path in taken:
            new = weight.shape[-2] - source[path].shape[-2]
            grown[path] = jnp.pad(source[path], [(0, 0), (0, 0), (0, new), (0, 0)])
        elif any(part.startswith(_ADDED) for part in path) or _to_rgb(path):
            grown[path] = jnp.zeros_like(weight)
        else:
            grown[path] = weight
    return traverse_util.unflatten_dict(grown)
