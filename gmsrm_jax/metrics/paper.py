"""The four image measures of the paper: PSNR, SSIM, NCC and LMSE, in ERRNet's definitions.

Every function takes `(prediction, target)`, arrays [..., H, W, 3] of any dtype with values in
0..255, and returns float32 [...]. All work in float32, so uint8 input never wraps around, and can
be jitted. `DEFINITIONS` states in words what each one computes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gmsrm_jax.metrics.similarity import UNIFORM_WINDOW, uniform_similarity

MAX_PSNR = 100.0
_PEAK = 255.0
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


def each_picture(
    score: Callable[..., jax.Array],
    prediction: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    smallest: int = 1,
) -> jax.Array:
    """Scores one picture after another.

    The arrays in between are of a single picture's size, which a processor's cache holds: several
    times as fast on a CPU as whole batches. A batch split over devices is gathered on each.

    Args:
        score: from prediction and target, float32 [H, 3 W] with the channels of a pixel side by
            side, and the hole, bool [H, 3 W], if there is a mask, to one number.
        prediction: [..., H, W, 3], any dtype.
        target: [..., H, W, 3], any dtype.
        mask: [..., H, W, 1], above 0.5 in the hole, or None.
        smallest: side of the smallest picture that has a score.

    Returns:
        [...]

    Raises:
        ValueError: the shapes differ, are not as above, or H or W is below `smallest`.
    """
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    shape = prediction.shape
    if shape != target.shape:
        raise ValueError(f"prediction {shape} and target {target.shape} differ in shape")
    if len(shape) < 3 or shape[-1] != 3 or min(shape[-3:-1]) < smallest:
        raise ValueError(
            f"images must be [..., H, W, 3] with H and W at least {smallest}, got {shape}"
        )
    arrays = [prediction, target]
    if mask is not None:
        mask = jnp.asarray(mask)
        if mask.shape != (*shape[:-1], 1):
            raise ValueError(f"the mask of {shape} must be [..., H, W, 1], got {mask.shape}")
        arrays.append(jnp.broadcast_to(mask > 0.5, shape))
    rows = [array.reshape(math.prod(shape[:-3]), shape[-3], 3 * shape[-2]) for array in arrays]

    def score_row(row: list[jax.Array]) -> jax.Array:
        return score(row[0].astype(jnp.float32), row[1].astype(jnp.float32), *row[2:])

    return jax.lax.map(score_row, rows).reshape(shape[:-3])


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

    def score(x: jax.Array, y: jax.Array) -> jax.Array:
        return decibels(channel_sums(jnp.square(x - y)) / (x.size // 3))

    return each_picture(score, prediction, target)


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

    def score(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(uniform_similarity(x, y))

    return each_picture(score, prediction, target, smallest=UNIFORM_WINDOW)


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

    def mean(x: jax.Array) -> jax.Array:
        return jnp.mean(channel_sums(x) / (x.size // 3))

    def deviations(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        # The mean is taken from the first value on, so that constant arrays give exactly 0. What
        # rounding leaves in the mean of the result is returned with it.
        x = x - (x[0, 0] + mean(x - x[0, 0]))
        return x, mean(x)

    def score(x: jax.Array, y: jax.Array) -> jax.Array:
        (x, mean_x), (y, mean_y) = deviations(x), deviations(y)
        variance_x = mean(jnp.square(x)) - jnp.square(mean_x)
        variance_y = mean(jnp.square(y)) - jnp.square(mean_y)
        covariance = mean(x * y) - mean_x * mean_y
        correlation = covariance / (jnp.sqrt(variance_x) * jnp.sqrt(variance_y))
        return jnp.where((variance_x > 0.0) & (variance_y > 0.0), correlation, jnp.nan)

    return each_picture(score, prediction, target)


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


@jax.jit
def lmse(prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Local mean squared error (Grosse et al. 2009); see `DEFINITIONS["lmse"]`.

    With G the target and O the prediction, a window's best factor is α = sum(GO) / sum(O²), and
    what remains is sum((G - αO)²) = sum(G²) - α sum(GO): exactly 0 for two equal images.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.

    Returns:
        float32 [...], at least 0; NaN where the target is black.

    Raises:
        ValueError: the shapes differ, are not [..., H, W, 3], or a side is below 20.
    """

    def score(output: jax.Array, truth: jax.Array) -> jax.Array:
        energy = _lmse_sums(jnp.square(truth))
        energy_output = _lmse_sums(jnp.square(output))
        product = _lmse_sums(output * truth)
        dark = energy_output <= _LMSE_DARK
        # The inner `where` keeps a division by 0 out of gradients taken through this function.
        factor = jnp.where(dark, 0.0, product / jnp.where(dark, 1.0, energy_output))
        return jnp.sum(jnp.maximum(energy - factor * product, 0.0)) / jnp.sum(energy)

    return each_picture(score, prediction, target, smallest=2 * _LMSE_STRIDE)


METRICS: dict[str, Callable[[ArrayLike, ArrayLike], jax.Array]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ncc": ncc,
    "lmse": lmse,
}
