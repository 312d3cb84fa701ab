"""What LISK knows of a picture's structure: gradients, edges, and how near to an edge a pixel is.

Nothing here has a gradient. A scale is a picture's side over the side that it is looked at.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.nn.canny import canny, grey
from gmsrm_jax.nn.smooth_fill import smooth_fill
from gmsrm_jax.nn.stencil import gaussian_taps, stencil
from gmsrm_jax.runtime.pixels import composite, to_unit

SCALES = {"quarter": 4, "half": 2, "whole": 1}
INPUTS = 11  # channels of `seen`


class Target(NamedTuple):
    """What the pyramid structure loss compares with at one scale.

    Attributes:
        gradients: G, [N, s, s, 6].
        priority: P, [N, s, s, 1].
        share: ΣP of the whole batch over its pictures, [N], the same for each.
    """

    gradients: jax.Array
    priority: jax.Array
    share: jax.Array


def sobel(image: jax.Array) -> jax.Array:
    """Sobel differences, not normalised, mirrored outside without repeating the border.

    Args:
        image: [N, H, W, C].

    Returns:
        [N, H, W, 2C]: dy, dx of the first channel, then of the next; for values in [-1, 1] in
        [-8, 8].
    """
    padded = jnp.pad(image, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    smooth, difference = np.array([1.0, 2.0, 1.0]), np.array([-1.0, 0.0, 1.0])
    dy = stencil(stencil(padded, difference, 1), smooth, 2)
    dx = stencil(stencil(padded, smooth, 1), difference, 2)
    return jnp.stack([dy, dx], axis=-1).reshape(*image.shape[:-1], -1)


def priority(edges: jax.Array) -> jax.Array:
    """P: edges [N, H, W, 1] blurred twice by a normalised 5×5 Gaussian of σ 1, zeros outside."""
    x = edges
    for axis in (1, 2, 1, 2):
        x = stencil(x, gaussian_taps(5, 1.0), axis, pad=2)
    return x


def _edges(config: ConfigDict, image: jax.Array) -> jax.Array:
    """Canny's edges, 0 or 1, of pictures in [-1, 1]."""
    return canny(grey(to_unit(image)), config.lisk.sigma)


def seen(config: ConfigDict, image: jax.Array, mask: jax.Array) -> jax.Array:
    """The network's input: [I·K, (1 - E)·K + M, M, Sobel·K], K = 1 - M.

    E and Sobel are those of the picture whose hole is filled smoothly, so that no hole is looked
    at, nor its border an edge; with lisk.structure_inputs "complete" of the whole picture, as the
    released code has it, which tells of the hole what lies within reach of the two filters.

    Args:
        config: with lisk.sigma and lisk.structure_inputs.
        image: [N, S, S, 3] in [-1, 1].
        mask: [N, S, S, 1], 1 in the hole.

    Returns:
        [N, S, S, 11].
    """
    known, whole = 1.0 - mask, image
    if config.lisk.structure_inputs == "known":
        whole = composite(image, smooth_fill(image, mask), mask)
    lines = (1.0 - _edges(config, whole)) * known + mask
    inputs = jnp.concatenate([image * known, lines, mask, sobel(whole) * known], axis=-1)
    return jax.lax.stop_gradient(inputs)


def smaller(x: jax.Array, scale: int) -> jax.Array:
    """The nearest pixels of [N, S, S, C] at S / scale."""
    return x[:, ::scale, ::scale]


def targets(config: ConfigDict, image: jax.Array) -> dict[str, Target]:
    """Gradients and priorities of whole pictures [N, S, S, 3] in [-1, 1], at every scale."""
    found = {}
    for name, scale in SCALES.items():
        small = smaller(image, scale)
        nearness = priority(_edges(config, small))
        share = jnp.broadcast_to(nearness.sum() / len(image), image.shape[:1])
        found[name] = Target(sobel(small), nearness, share)
    return found


def structure_loss(predicted: jax.Array, target: Target) -> jax.Array:
    """L_s = 0.1 · mean e + Σ P·e / (6 ΣP), e = |Ĝ - G|, ΣP over the whole batch.

    The released code weighs edges by 20 above and below the fraction line, which cancels. Without
    an edge in the batch the second term is 0.

    Args:
        predicted: Ĝ, [N, s, s, 6].
        target: of the same examples.
    """
    error = jnp.abs(predicted - target.gradients)
    weights = jnp.maximum(target.share.sum() * error.shape[-1], 1e-6)
    return 0.1 * error.mean() + (target.priority * error).sum() / weights
