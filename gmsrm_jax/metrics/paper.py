"""The four image measures of the paper: PSNR, SSIM, NCC and LMSE, in ERRNet's definitions.

What goes in and comes out stands in `metrics.measure`. All work in float32, so uint8 input never
wraps around. Here a score is given float32 [H, 3 W], the channels of a pixel side by side.
"""

import jax
import jax.numpy as jnp

from gmsrm_jax.metrics.measure import Measure, define, measure
from gmsrm_jax.metrics.similarity import UNIFORM_WINDOW, uniform_similarity

MAX_PSNR = 100.0
_PEAK = 255.0
_LMSE_STRIDE = 10
_LMSE_DARK = 1e-5


def channel_sums(values: jax.Array) -> jax.Array:
    """Sums over the pixels of [H, 3 W], for each channel, [3]."""
    return jnp.sum(jnp.sum(values, axis=0).reshape(-1, 3), axis=0)


def decibels(error: jax.Array) -> jax.Array:
    """The mean of three channels' signal-to-noise ratios.

    Args:
        error: [3], mean squared error of each channel, of values in 0..255.

    Returns:
        [] in dB, at most 100; NaN where an error is.
    """
    return jnp.minimum(jnp.mean(10.0 * jnp.log10(_PEAK**2 / error)), MAX_PSNR)


@measure()
def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB.

    10 log10(255^2 / MSE) of each colour channel, then the mean of the three values, capped at
    100 dB (two identical channels would be infinite).
    """
    return decibels(channel_sums(jnp.square(x - y)) / (x.size // 3))


@measure(smallest=UNIFORM_WINDOW)
def ssim(x: jax.Array, y: jax.Array) -> jax.Array:
    """Structural similarity (Wang et al. 2004), in -1..1.

    Structural similarity of each colour channel with a uniform 7x7 window, sample covariance
    (49/48), K1 = 0.01, K2 = 0.03 and data range 255, averaged over the windows that lie wholly
    inside the image, then over the three channels.
    """
    return jnp.mean(uniform_similarity(x, y))


@measure()
def ncc(x: jax.Array, y: jax.Array) -> jax.Array:
    """Normalised cross-correlation, in -1..1.

    Normalised cross-correlation over the whole H x W x 3 array: the mean product of the deviations
    from the two global means, divided by both population standard deviations; undefined where
    either array is constant.
    """

    def mean(x: jax.Array) -> jax.Array:
        return jnp.mean(channel_sums(x) / (x.size // 3))

    def deviations(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        # The mean is taken from the first value on, so that constant arrays give exactly 0. What
        # rounding leaves in the mean of the result is returned with it.
        x = x - (x[0, 0] + mean(x - x[0, 0]))
        return x, mean(x)

    (x, mean_x), (y, mean_y) = deviations(x), deviations(y)
    variance_x = mean(jnp.square(x)) - jnp.square(mean_x)
    variance_y = mean(jnp.square(y)) - jnp.square(mean_y)
    covariance = mean(x * y) - mean_x * mean_y
    correlation = covariance / (jnp.sqrt(variance_x) * jnp.sqrt(variance_y))
    return jnp.where((variance_x > 0.0) & (variance_y > 0.0), correlation, jnp.nan)


def _lmse_sums(values: jax.Array) -> jax.Array:
    """Sums over the 20 x 20 windows of [H, 3 W], whose corners lie 10 pixels apart.

    A window is a square of 2 x 2 blocks of 10 x 10 pixels. What is left at the lower and right
    edge belongs to none.
    """
    rows, columns = values.shape[0] // _LMSE_STRIDE, values.shape[1] // (3 * _LMSE_STRIDE)
    strips = values[: rows * _LMSE_STRIDE].reshape(rows, _LMSE_STRIDE, -1)
    strips = jnp.sum(strips, axis=1)[:, : columns * 3 * _LMSE_STRIDE]
    blocks = jnp.sum(strips.reshape(rows, columns, _LMSE_STRIDE, 3), axis=2)
    pairs = blocks[1:] + blocks[:-1]
    return pairs[:, 1:] + pairs[:, :-1]


@measure(smallest=2 * _LMSE_STRIDE)
def lmse(output: jax.Array, truth: jax.Array) -> jax.Array:
    """Local mean squared error (Grosse et al. 2009), at least 0.

    Local mean squared error over 20x20 windows with stride 10 in each channel: in every window the
    prediction is rescaled by the factor that fits the target best (0 where the prediction is
    black); the squared errors summed over all windows and channels, divided by the target's summed
    squares; undefined for a black target.

    With G the target and O the prediction, a window's best factor is α = sum(GO) / sum(O²), and
    what remains is sum((G - αO)²) = sum(G²) - α sum(GO): exactly 0 for two equal images.
    """
    energy = _lmse_sums(jnp.square(truth))
    energy_output = _lmse_sums(jnp.square(output))
    product = _lmse_sums(output * truth)
    dark = energy_output <= _LMSE_DARK
    # The inner `where` keeps a division by 0 out of gradients taken through this function.
    factor = jnp.where(dark, 0.0, product / jnp.where(dark, 1.0, energy_output))
    return jnp.sum(jnp.maximum(energy - factor * product, 0.0)) / jnp.sum(energy)


METRICS: dict[str, Measure] = {"psnr": psnr, "ssim": ssim, "ncc": ncc, "lmse": lmse}
DEFINITIONS = {
    "psnr": define(psnr, "PSNR", "dB", "higher"),
    "ssim": define(ssim, "SSIM", "1", "higher"),
    "ncc": define(ncc, "NCC", "1", "higher"),
    "lmse": define(lmse, "LMSE", "1", "lower"),
}
