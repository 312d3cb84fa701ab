"""Filters along one axis by shifted slices, which XLA fuses with what stands around them."""

import jax
import jax.numpy as jnp
import numpy as np


def stencil(x: jax.Array, taps: np.ndarray, axis: int, pad: int = 0) -> jax.Array:
    """Correlates an array with taps along one axis, in its format.

    Args:
        x: of any rank.
        taps: weights, the first for the place itself; one of 0 costs nothing.
        axis: along which.
        pad: zeros on both sides before.

    Returns:
        As long as the taps fit: shorter by len(taps) - 1 - 2 · pad along the axis.
    """
    pads = [(0, 0)] * x.ndim
    pads[axis] = (pad, pad)
    padded = jnp.pad(x, pads)
    size = padded.shape[axis] - len(taps) + 1
    parts = [
        float(tap) * jax.lax.slice_in_dim(padded, k, k + size, axis=axis)
        for k, tap in enumerate(taps)
        if tap
    ]
    return sum(parts[1:], parts[0])


def gaussian_taps(count: int, sigma: float) -> np.ndarray:
    """A Gaussian at so many places around its centre, float64, with the sum 1."""
    taps = np.exp(-0.5 * np.square((np.arange(count) - (count - 1) / 2) / sigma))
    return taps / taps.sum()
