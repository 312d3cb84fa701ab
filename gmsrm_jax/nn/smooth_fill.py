"""Pull-push: the smoothest guess at a hole, from averages of what is known (Gortler et al., 1996).

An instance norm takes the mean colour of a picture out of every feature, so the decoder of Eq. 6
alone can hardly tell which brown the wall around a small hole has.
"""

import jax
import jax.numpy as jnp

from gmsrm_jax.nn.layers import average_pool, bilinear_upsample

_ENOUGH = 1.0 / 8.0  # share of known pixels from which on a square's own average counts whole
_FLOOR = 1e-6  # an average of nothing is 0


def smooth_fill(image: jax.Array, mask: jax.Array) -> jax.Array:
    """Fills holes with averages of known pixels, over squares that double until some are known.

    With w_0 = 1 - M and c_0 = w_0 · I, w_l and c_l are their means over squares of 2^l pixels. From
    the largest square down, x_l = a · c_l / w_l + (1 - a) · up(x_{l+1}) with a = min(1, 8 w_l), up
    being bilinear: known pixels keep their values, and averages blend where few pixels are known.

    Args:
        image: [N, S, S, C], S a power of two; what lies in the hole is not looked at.
        mask: [N, S, S, 1], 1 in the hole.

    Returns:
        [N, S, S, C]; zeros for an example without known pixels.
    """
    known = 1.0 - mask
    levels = [jnp.concatenate([image * known, known], axis=-1)]
    while levels[-1].shape[1] > 1:
        levels.append(average_pool(levels[-1], levels[-1].shape[1] // 2))
    filled = _average(levels.pop())
    while levels:
        level = levels.pop()
        share = jnp.minimum(level[..., -1:] / _ENOUGH, 1.0)
        filled = share * _average(level) + (1.0 - share) * bilinear_upsample(filled)
    return filled


def _average(level: jax.Array) -> jax.Array:
    """Mean of the known pixels of each square, 0 where there are none."""
    return level[..., :-1] / jnp.maximum(level[..., -1:], _FLOOR)
