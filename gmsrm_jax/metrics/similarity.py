"""Structural similarity (SSIM) of two pictures, window by window.

Pictures are [H, 3 W] here: the three channels of a pixel lie side by side, so that a shift by one
pixel is one by three entries.

With the sum s = x + y and the difference d = x - y, the index of Wang et al. 2004,

    (2 μx μy + C1) (2 σxy + C2) / ((μx² + μy² + C1) (σx² + σy² + C2)),

is (1 - 2 μd² / (μs² + μd² + 2 C1)) (1 - 2 σd² / (σs² + σd² + 2 C2)). In this form float32 keeps
its digits where the pictures are nearly equal, and equal pictures give exactly 1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

UNIFORM_WINDOW = 7
GAUSSIAN_WINDOW = 11
_GAUSSIAN_SIGMA = 1.5
_PEAK = 255.0
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2


def _uniform_mean(values: jax.Array) -> jax.Array:
    """Means over 7 x 7 pixels."""

    def add(values: jax.Array, size: tuple[int, int]) -> jax.Array:
        return jax.lax.reduce_window(
            values, 0.0, jax.lax.add, size, (1, 1), "VALID", window_dilation=(1, 3)
        )

    return add(add(values, (UNIFORM_WINDOW, 1)), (1, UNIFORM_WINDOW)) / UNIFORM_WINDOW**2


def _weighted_sum(values: jax.Array, taps: jax.Array, axis: int, step: int) -> jax.Array:
    """Sums along an axis, `step` entries from tap to tap; `taps` is symmetric, its length odd.

    A loop, since XLA would fuse the unrolled sums along both axes into one with 121 terms.
    """
    last = taps.size - 1
    length = values.shape[axis] - last * step

    def shifted(tap: jax.Array | int) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(values, tap * step, length, axis)

    def add_pair(tap: jax.Array, total: jax.Array) -> jax.Array:
        return total + taps[tap] * (shifted(tap) + shifted(last - tap))

    return jax.lax.fori_loop(0, last // 2, add_pair, taps[last // 2] * shifted(last // 2))


def _gaussian_mean(values: jax.Array) -> jax.Array:
    """Gaussian-weighted means over 11 x 11 pixels."""
    radius = GAUSSIAN_WINDOW // 2
    weights = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / _GAUSSIAN_SIGMA))
    taps = jnp.asarray(weights / weights.sum(), jnp.float32)
    return _weighted_sum(_weighted_sum(values, taps, 0, 1), taps, 1, 3)


def _similarity(
    x: jax.Array, y: jax.Array, mean: Callable[[jax.Array], jax.Array], sample: float
) -> jax.Array:
    """The index in every window inside the pictures; `sample` is a factor of all variances."""

    def moments(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        centre = mean(values)
        return centre, sample * jnp.maximum(mean(values * values) - jnp.square(centre), 0.0)

    # Variances do not depend on an offset; without it, squares and their rounding are smaller.
    mean_sum, variance_sum = moments(x + y - _PEAK)
    mean_difference, variance_difference = moments(x - y)
    square = jnp.square(mean_difference)
    luminance = 1.0 - 2.0 * square / (jnp.square(mean_sum + _PEAK) + square + 2.0 * _C1)
    spread = variance_sum + variance_difference + 2.0 * _C2
    return luminance * (1.0 - 2.0 * variance_difference / spread)


def uniform_similarity(x: jax.Array, y: jax.Array) -> jax.Array:
    """SSIM of each uniform 7 x 7 window, with sample covariance (49/48).

    Maps two pictures, float32 [H, 3 W] in 0..255, to [H - 6, 3 (W - 6)] in -1..1.
    """
    count = UNIFORM_WINDOW**2
    return _similarity(x, y, _uniform_mean, count / (count - 1))


def gaussian_similarity(x: jax.Array, y: jax.Array) -> jax.Array:
    """SSIM of each Gaussian 11 x 11 window (σ 1.5, weights of sum 1), with population covariance.

    Maps two pictures, float32 [H, 3 W] in 0..255, to [H - 10, 3 (W - 10)] in -1..1.
    """
    return _similarity(x, y, _gaussian_mean, 1.0)
