"""Measures beside the paper's four: L1, the Gaussian SSIM, and three of the hole's pixels alone.

They stand under their own names, since other papers give some of them as "SSIM" or "PSNR", and
none may be compared with the paper's figures. `EXTRA_DEFINITIONS` states what each one computes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gmsrm_jax.metrics.paper import Definition, channel_sums, decibels, each_picture
from gmsrm_jax.metrics.similarity import (
    GAUSSIAN_WINDOW,
    UNIFORM_WINDOW,
    gaussian_similarity,
    uniform_similarity,
)

EXTRA_DEFINITIONS: dict[str, Definition] = {
    "l1": Definition(
        "L1",
        "Mean absolute difference of all pixels and channels, of values in 0..255.",
        "levels",
        "lower",
    ),
    "ssim_gaussian": Definition(
        "SSIM (Gaussian 11)",
        "Structural similarity of each colour channel with a Gaussian 11x11 window (sigma 1.5), "
        "population covariance, K1 = 0.01, K2 = 0.03 and data range 255, averaged over the "
        "windows that lie wholly inside the image, then over the three channels.",
        "1",
        "higher",
    ),
    "psnr_hole": Definition(
        "PSNR in the hole",
        "10 log10(255^2 / MSE) of each colour channel, the mean squared error taken over the "
        "hole's pixels alone, then the mean of the three values, capped at 100 dB; undefined "
        "without a hole.",
        "dB",
        "higher",
    ),
    "l1_hole": Definition(
        "L1 in the hole",
        "Mean absolute difference of the hole's pixels in all channels, of values in 0..255; "
        "undefined without a hole.",
        "levels",
        "lower",
    ),
    "ssim_hole": Definition(
        "SSIM in the hole",
        "The paper's structural similarity (uniform 7x7 window), averaged over the windows that "
        "lie wholly inside the image and whose centre lies in the hole, then over the three "
        "channels; undefined where there is none.",
        "1",
        "higher",
    ),
}


@jax.jit
def l1(prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Mean absolute difference; see `EXTRA_DEFINITIONS["l1"]`.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.

    Returns:
        float32 [...], in 0..255.

    Raises:
        ValueError: the shapes differ or are not [..., H, W, 3].
    """

    def score(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(channel_sums(jnp.abs(x - y)) / (x.size // 3))

    return each_picture(score, prediction, target)


@jax.jit
def ssim_gaussian(prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Structural similarity as Wang et al. 2004 weight it; see `EXTRA_DEFINITIONS`.

    Equal to scikit-image's `structural_similarity` of each channel with `gaussian_weights=True`,
    `sigma=1.5`, `use_sample_covariance=False` and `data_range=255`, which leaves out a border of
    5 pixels.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.

    Returns:
        float32 [...], in -1..1.

    Raises:
        ValueError: the shapes differ, are not [..., H, W, 3], or a side is below 11.
    """

    def score(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(gaussian_similarity(x, y))

    return each_picture(score, prediction, target, smallest=GAUSSIAN_WINDOW)


@jax.jit
def psnr_hole(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Peak signal-to-noise ratio of the hole; see `EXTRA_DEFINITIONS["psnr_hole"]`.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.
        mask: [..., H, W, 1], 1 in the hole.

    Returns:
        float32 [...] in dB, at most 100; NaN without a hole.

    Raises:
        ValueError: the shapes differ or are not as above.
    """

    def score(x: jax.Array, y: jax.Array, hole: jax.Array) -> jax.Array:
        error = channel_sums(jnp.where(hole, jnp.square(x - y), 0.0))
        return decibels(error / channel_sums(hole.astype(jnp.float32)))

    return each_picture(score, prediction, target, mask)


@jax.jit
def l1_hole(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Mean absolute difference in the hole; see `EXTRA_DEFINITIONS["l1_hole"]`.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.
        mask: [..., H, W, 1], 1 in the hole.

    Returns:
        float32 [...], in 0..255; NaN without a hole.

    Raises:
        ValueError: the shapes differ or are not as above.
    """

    def score(x: jax.Array, y: jax.Array, hole: jax.Array) -> jax.Array:
        error = channel_sums(jnp.where(hole, jnp.abs(x - y), 0.0))
        return jnp.mean(error / channel_sums(hole.astype(jnp.float32)))

    return each_picture(score, prediction, target, mask)


@jax.jit
def ssim_hole(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Structural similarity around the hole's pixels; see `EXTRA_DEFINITIONS["ssim_hole"]`.

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.
        mask: [..., H, W, 1], 1 in the hole.

    Returns:
        float32 [...], in -1..1; NaN if no window's centre lies in the hole.

    Raises:
        ValueError: the shapes differ or are not as above, or a side is below 7.
    """
    border = UNIFORM_WINDOW // 2

    def score(x: jax.Array, y: jax.Array, hole: jax.Array) -> jax.Array:
        centres = hole[border:-border, 3 * border : -3 * border]
        return jnp.mean(uniform_similarity(x, y), where=centres)

    return each_picture(score, prediction, target, mask, smallest=UNIFORM_WINDOW)


EXTRA_METRICS: dict[str, Callable[[ArrayLike, ArrayLike], jax.Array]] = {
    "l1": l1,
    "ssim_gaussian": ssim_gaussian,
}
HOLE_METRICS: dict[str, Callable[[ArrayLike, ArrayLike, ArrayLike], jax.Array]] = {
    "psnr_hole": psnr_hole,
    "l1_hole": l1_hole,
    "ssim_hole": ssim_hole,
}
