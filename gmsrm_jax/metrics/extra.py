"""Measures beside the paper's four: L1, the Gaussian SSIM, and four of the hole's pixels alone.

They stand under their own names, since other papers give some of them as "SSIM" or "PSNR", and
none may be compared with the paper's figures. What goes in and comes out stands in
`metrics.measure`.
"""

import jax
import jax.numpy as jnp

from gmsrm_jax.metrics.measure import Measure, define, measure
from gmsrm_jax.metrics.paper import channel_sums, decibels
from gmsrm_jax.metrics.similarity import (
    GAUSSIAN_WINDOW,
    UNIFORM_WINDOW,
    gaussian_similarity,
    uniform_similarity,
)


@measure()
def l1(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean absolute difference, in 0..255.

    Mean absolute difference of all pixels and channels, of values in 0..255.
    """
    return jnp.mean(channel_sums(jnp.abs(x - y)) / (x.size // 3))


@measure(smallest=GAUSSIAN_WINDOW)
def ssim_gaussian(x: jax.Array, y: jax.Array) -> jax.Array:
    """Structural similarity as Wang et al. 2004 weight it, in -1..1.

    Structural similarity of each colour channel with a Gaussian 11x11 window (sigma 1.5),
    population covariance, K1 = 0.01, K2 = 0.03 and data range 255, averaged over the windows that
    lie wholly inside the image, then over the three channels.

    Equal to scikit-image's `structural_similarity` of each channel with `gaussian_weights=True`,
    `sigma=1.5`, `use_sample_covariance=False` and `data_range=255`, which leaves out a border of
    5 pixels.
    """
    return jnp.mean(gaussian_similarity(x, y))


@measure()
def psnr_hole(x: jax.Array, y: jax.Array, hole: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio of the hole in dB.

    10 log10(255^2 / MSE) of each colour channel, the mean squared error taken over the hole's
    pixels alone, then the mean of the three values, capped at 100 dB; undefined without a hole.
    """
    error = channel_sums(jnp.where(hole, jnp.square(x - y), 0.0))
    return decibels(error / channel_sums(hole.astype(jnp.float32)))


@measure()
def l1_hole(x: jax.Array, y: jax.Array, hole: jax.Array) -> jax.Array:
    """Mean absolute difference in the hole, in 0..255.

    Mean absolute difference of the hole's pixels in all channels, of values in 0..255; undefined
    without a hole.
    """
    error = channel_sums(jnp.where(hole, jnp.abs(x - y), 0.0))
    return jnp.mean(error / channel_sums(hole.astype(jnp.float32)))


@measure(smallest=UNIFORM_WINDOW)
def ssim_hole(x: jax.Array, y: jax.Array, hole: jax.Array) -> jax.Array:
    """Structural similarity around the hole's pixels, in -1..1.

    The paper's structural similarity (uniform 7x7 window), averaged over the windows that lie
    wholly inside the image and whose centre lies in the hole, then over the three channels;
    undefined where there is none.
    """
    border = UNIFORM_WINDOW // 2
    centres = hole[border:-border, 3 * border : -3 * border]
    return jnp.mean(uniform_similarity(x, y), where=centres)


@measure()
def sharpness(x: jax.Array, y: jax.Array, hole: jax.Array) -> jax.Array:
    """Whether the hole has detail at all, wherever in it; at least 0.

    Mean length of the gradient in the hole, of the filling over that of the truth: forward
    differences of each colour channel, 0 beyond the last row and column; 1 is right, less is blur,
    more is noise; undefined where the truth has no gradient, or without a hole.

    PSNR and aligned distances favour blur: a sharp window two pixels off costs more than fog. This
    and `perceptual.texture` see fog, and forgive the two pixels. With
    g(x) = √((x(r+1, c) − x(r, c))² + (x(r, c+1) − x(r, c))²) of one channel:

        sum over hole and channels of g(prediction) / the same of g(target)
    """

    def gradients(x: jax.Array) -> jax.Array:
        down = jnp.diff(x, axis=0, append=x[-1:])
        right = jnp.concatenate([x[:, 3:] - x[:, :-3], jnp.zeros_like(x[:, :3])], axis=1)
        return jnp.sum(jnp.where(hole, jnp.hypot(down, right), 0.0))

    truth = gradients(y)
    return jnp.where(truth > 0, gradients(x) / jnp.maximum(truth, 1e-12), jnp.nan)


EXTRA_METRICS: dict[str, Measure] = {"l1": l1, "ssim_gaussian": ssim_gaussian}
HOLE_METRICS: dict[str, Measure] = {
    "psnr_hole": psnr_hole,
    "l1_hole": l1_hole,
    "ssim_hole": ssim_hole,
    "sharpness": sharpness,
}
EXTRA_DEFINITIONS = {
    "l1": define(l1, "L1", "levels", "lower"),
    "ssim_gaussian": define(ssim_gaussian, "SSIM (Gaussian 11)", "1", "higher"),
    "psnr_hole": define(psnr_hole, "PSNR in the hole", "dB", "higher"),
    "l1_hole": define(l1_hole, "L1 in the hole", "levels", "lower"),
    "ssim_hole": define(ssim_hole, "SSIM in the hole", "1", "higher"),
    "sharpness": define(sharpness, "Sharpness", "1", "nearer to 1"),
}
