"""Structure pictures: relative total variation (Xu et al., 2012), with separable solves.

Texture is what changes its sign within a window; a Gaussian takes it away and leaves edges. The
weights are the authors', their large linear system is replaced by lines, rows and columns in turn
(Min et al., arXiv 1412.2224), which need no factorisation. No gradient, float32.
"""

import jax
import jax.numpy as jnp

from gmsrm_jax.nn.stencil import gaussian_taps, stencil

_LINE_PASSES = 3


def smoothed(
    image: jax.Array, strength: float = 0.015, sigma: float = 3.0, sharpness: float = 0.001
) -> jax.Array:
    """Pictures without their texture.

    From x = I, for σ, σ / 2 and σ / 4, at least 0.5 px:

        w_x = 1 / (max(mean |∂_x G_σ x|, ε) · max(mean |∇x|, ε)), means over channels, w_y alike,
        x = (1 + λ/2 · L_w)⁻¹ I, approximately,

    with differences to the next pixel, and L_w the Laplacian of these couplings.

    Args:
        image: I, [N, H, W, C] in [0, 1].
        strength: λ.
        sigma: σ [px].
        sharpness: ε.

    Returns:
        Float32 [N, H, W, C] with the mean colours of I.
    """
    image = jax.lax.stop_gradient(image.astype(jnp.float32))
    x = image
    for _ in range(3):
        w_x, w_y = _couplings(x, sigma, sharpness)
        x = _solved(image, 0.5 * strength * w_x, 0.5 * strength * w_y)
        sigma = max(sigma / 2, 0.5)
    return x


def _difference(x: jax.Array, axis: int) -> jax.Array:
    """The next pixel minus this one, 0 at the end: [N, H, W, C]."""
    end = jax.lax.slice_in_dim(x, x.shape[axis] - 1, x.shape[axis], axis=axis)
    return jnp.diff(x, axis=axis, append=end)


def _couplings(x: jax.Array, sigma: float, sharpness: float) -> tuple[jax.Array, jax.Array]:
    """w_x to the pixel on the right, w_y to the one below; [N, H, W] each, 0 at the ends."""
    f_x, f_y = _difference(x, 2), _difference(x, 1)
    here = jnp.sqrt(jnp.square(f_x) + jnp.square(f_y)).mean(-1)
    count = round(5 * sigma) | 1
    blurred = x
    for axis in (1, 2):
        blurred = stencil(blurred, gaussian_taps(count, sigma), axis, pad=count // 2)

    def coupling(axis: int) -> jax.Array:
        around = jnp.abs(_difference(blurred, axis)).mean(-1)
        weights = 1.0 / (jnp.maximum(around, sharpness) * jnp.maximum(here, sharpness))
        size = weights.shape[axis]
        inner = jax.lax.slice_in_dim(weights, 0, size - 1, axis=axis)
        pads = [(0, 0)] * 3
        pads[axis] = (0, 1)
        return jnp.pad(inner, pads)

    return coupling(2), coupling(1)


def _solved(image: jax.Array, w_x: jax.Array, w_y: jax.Array) -> jax.Array:
    """About (1 + L_w)⁻¹ I, by rows and columns in turn, the first passes with the most weight."""
    u = image
    for k in range(1, _LINE_PASSES + 1):
        share = 1.5 * 4 ** (_LINE_PASSES - k) / (4**_LINE_PASSES - 1)
        u = _lines(u, share * w_x)
        u = _lines(u.swapaxes(1, 2), share * w_y.swapaxes(1, 2)).swapaxes(1, 2)
    return u


def _lines(x: jax.Array, w: jax.Array) -> jax.Array:
    """(1 + L_w)⁻¹ x along the rows of x [N, H, W, C], with couplings w [N, H, W] to the right."""
    before = jnp.pad(w[..., :-1], [(0, 0), (0, 0), (1, 0)])
    return jax.lax.linalg.tridiagonal_solve(-before, 1.0 + before + w, -w, x)
