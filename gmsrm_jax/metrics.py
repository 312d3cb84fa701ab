"""The four image measures of the paper: PSNR, SSIM, NCC and LMSE, in ERRNet's definitions.

Every function takes `(prediction, target)`, arrays [..., H, W, 3] of any dtype with values in
0..255, and returns float32 [...]. All work in float32, so uint8 input never wraps around, and can
be jitted. `DEFINITIONS` states in words what each one computes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

MAX_PSNR = 100.0
_PEAK = 255.0
_SSIM_WINDOW = 7
_SSIM_C1 = (0.01 * _PEAK) ** 2
_SSIM_C2 = (0.03 * _PEAK) ** 2
_LMSE_WINDOW = 20
_LMSE_STRIDE = 10
_LMSE_DARK = 1e-5


class Definition(NamedTuple):
    """What a measure is: its label, one exact sentence, its unit and which direction is better."""

    label: str
    text: str
    unit: str
    better: str


DEFINITIONS: dict[str, Definition] = {
    "psnr": Definition(
        "PSNR",
        "10 log10(255^2 / MSE) of each colour channel, then the mean of the three values, capped "
        "at 100 dB (two identical channels would be infinite).",
        "dB",
        "higher",
    ),
    "ssim": Definition(
        "SSIM",
        "Structural similarity of each colour channel with a uniform 7x7 window, sample "
        "covariance (49/48), K1 = 0.01, K2 = 0.03 and data range 255, averaged over the windows "
        "that lie wholly inside the image, then over the three channels.",
        "1",
        "higher",
    ),
    "ncc": Definition(
        "NCC",
        "Normalised cross-correlation over the whole H x W x 3 array: the mean product of the "
        "deviations from the two global means, divided by both population standard deviations; "
        "undefined where either array is constant.",
        "1",
        "higher",
    ),
    "lmse": Definition(
        "LMSE",
        "Local mean squared error over 20x20 windows with stride 10 in each channel: in every "
        "window the prediction is rescaled by the factor that fits the target best (0 where the "
        "prediction is black); the squared errors summed over all windows and channels, divided "
        "by the target's summed squares; undefined for a black target.",
        "1",
        "lower",
    ),
}


def _pixels(
    prediction: ArrayLike, target: ArrayLike, smallest: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Both images as float32, checked.

    Raises:
        ValueError: the shapes differ, are not [..., H, W, 3], or H or W is below `smallest`.
    """
    prediction = jnp.asarray(prediction, jnp.float32)
    target = jnp.asarray(target, jnp.float32)
    shape = prediction.shape
    if shape != target.shape:
        raise ValueError(f"prediction {shape} and target {target.shape} differ in shape")
    if len(shape) < 3 or shape[-1] != 3 or min(shape[-3:-1]) < smallest:
        raise ValueError(
            f"images must be [..., H, W, 3] with H and W at least {smallest}, got {shape}"
        )
    return prediction, target


def _window_sums(x: jax.Array, window: int, stride: int) -> jax.Array:
    """Sums over the `window` x `window` squares inside [..., H, W, C], one per `stride` pixels.

    Rows are added first, then columns. Differences of a running sum would need fewer additions,
    but lose the digits that variances need in float32.
    """
    for axis in (x.ndim - 3, x.ndim - 2):
        size, step = [1] * x.ndim, [1] * x.ndim
        size[axis], step[axis] = window, stride
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, size, step, "VALID")
    return x


@jax.jit
def psnr(prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Peak signal-to-noise ratio in dB; see `DEFINITIONS["psnr"]`.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.

    Returns:
        float32 [...], at most 100.

    Raises:
        ValueError: the shapes differ or are not [..., H, W, 3].
    """
    prediction, target = _pixels(prediction, target)
    error = jnp.mean(jnp.square(prediction - target), axis=(-3, -2))
    decibels = jnp.mean(10.0 * jnp.log10(_PEAK**2 / error), axis=-1)
    return jnp.minimum(decibels, MAX_PSNR)


@jax.jit
def ssim(prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Structural similarity (Wang et al. 2004); see `DEFINITIONS["ssim"]`.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.

    Returns:
        float32 [...], in -1..1.

    Raises:
        ValueError: the shapes differ, are not [..., H, W, 3], or a side is below 7.
    """
    prediction, target = _pixels(prediction, target, _SSIM_WINDOW)
    count = _SSIM_WINDOW**2

    # Variances do not depend on the offset; half the range keeps the squares, and with them the
    # rounding of E[x^2] - E[x]^2, four times smaller.
    half = _PEAK / 2.0
    x, y = prediction - half, target - half

    def window_mean(values: jax.Array) -> jax.Array:
        return _window_sums(values, _SSIM_WINDOW, 1) / count

    mean_x, mean_y = window_mean(x), window_mean(y)
    sample = count / (count - 1)
    variances = sample * (window_mean(x * x + y * y) - jnp.square(mean_x) - jnp.square(mean_y))
    covariance = sample * (window_mean(x * y) - mean_x * mean_y)
    mean_x, mean_y = mean_x + half, mean_y + half
    numerator = (2.0 * mean_x * mean_y + _SSIM_C1) * (2.0 * covariance + _SSIM_C2)
    denominator = (jnp.square(mean_x) + jnp.square(mean_y) + _SSIM_C1) * (variances + _SSIM_C2)
    return jnp.mean(numerator / denominator, axis=(-3, -2, -1))


@jax.jit
def ncc(prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Normalised cross-correlation; see `DEFINITIONS["ncc"]`.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.

    Returns:
        float32 [...], in -1..1; NaN where either array is constant.

    Raises:
        ValueError: the shapes differ or are not [..., H, W, 3].
    """
    prediction, target = _pixels(prediction, target)
    image = (-3, -2, -1)

    def deviations(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        constant = jnp.max(x, axis=image) == jnp.min(x, axis=image)
        return x - jnp.mean(x, axis=image, keepdims=True), constant

    x, constant_x = deviations(prediction)
    y, constant_y = deviations(target)
    energy_x = jnp.mean(jnp.square(x), axis=image)
    energy_y = jnp.mean(jnp.square(y), axis=image)
    correlation = jnp.mean(x * y, axis=image) / (jnp.sqrt(energy_x) * jnp.sqrt(energy_y))
    return jnp.where(constant_x | constant_y, jnp.nan, correlation)


@jax.jit
def lmse(prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Local mean squared error (Grosse et al. 2009); see `DEFINITIONS["lmse"]`.

    With G the target, O the prediction and D = O - G, a window's best-scaled squared error is
    sum(G^2) - sum(GO)^2 / sum(O^2) = (sum(G^2) sum(D^2) - sum(GD)^2) / sum(O^2). The second form
    keeps its digits when the two images are close, and is exactly 0 when they are equal.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.

    Returns:
        float32 [...], at least 0; NaN where the target is black.

    Raises:
        ValueError: the shapes differ, are not [..., H, W, 3], or a side is below 20.
    """
    prediction, target = _pixels(prediction, target, _LMSE_WINDOW)
    difference = prediction - target

    def window_sum(values: jax.Array) -> jax.Array:
        return _window_sums(values, _LMSE_WINDOW, _LMSE_STRIDE)

    energy = window_sum(jnp.square(target))
    energy_prediction = window_sum(jnp.square(prediction))
    gram = energy * window_sum(jnp.square(difference)) - jnp.square(window_sum(target * difference))
    dark = energy_prediction <= _LMSE_DARK
    # The inner `where` keeps a division by 0 out of gradients taken through this function.
    scaled = jnp.maximum(gram, 0.0) / jnp.where(dark, 1.0, energy_prediction)
    error = jnp.where(dark, energy, scaled)
    return jnp.sum(error, axis=(-3, -2, -1)) / jnp.sum(energy, axis=(-3, -2, -1))


METRICS: dict[str, Callable[[ArrayLike, ArrayLike], jax.Array]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ncc": ncc,
    "lmse": lmse,
}
