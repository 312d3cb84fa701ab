"""Progressive growing (arXiv 1710.10196): a stage 1 begins with the weights of a smaller one.

With StyleGAN2's networks nothing is faded in. The memory's image is a sum over its resolutions, so
new ones whose layers to RGB are zero leave it as the smaller memory's, up-sampled. The
discriminator has all its levels but those next to the picture.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

_RGB = "rgb_"
_FROM_RGB = "from_rgb"  # the same name at every size, but behind it is another level


def taken_over(drawn: Any, smaller: Any) -> set[tuple[str, ...]]:
    """Paths of the weights that a larger network takes from a smaller one.

    They are those of the same name and shape, but for the layer that reads RGB pictures.
    """
    drawn, smaller = (traverse_util.flatten_dict(tree) for tree in (drawn, smaller))
    return {
        path
        for path, weight in drawn.items()
        if path in smaller and smaller[path].shape == weight.shape and _FROM_RGB not in path
    }


def grow(drawn: Any, smaller: Any) -> Any:
    """Weights of a larger network that begins as a smaller one.

    Args:
        drawn: parameters of the larger network, as at a start from nothing.
        smaller: parameters of the smaller one.

    Returns:
        `drawn`, with the smaller network's weights where `taken_over` says, and zeros in the
        kernels and biases to RGB that are new.
    """
    taken, source = taken_over(drawn, smaller), traverse_util.flatten_dict(smaller)
    grown: dict[tuple[str, ...], jax.Array] = {}
    for path, weight in traverse_util.flatten_dict(drawn).items():
        if path in taken:
            grown[path] = jnp.copy(source[path])
        elif len(path) > 1 and path[-2].startswith(_RGB):
            grown[path] = jnp.zeros_like(weight)
        else:
            grown[path] = weight
    return traverse_util.unflatten_dict(grown)
