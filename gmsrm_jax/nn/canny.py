"""Grey values and Canny edges on the device, pixel by pixel those of scikit-image.

Canny, "A Computational Approach to Edge Detection" (1986), as `skimage.feature.canny` reads it,
also for pictures of which only a part is known. Float32 throughout, and nothing here has a
gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gmsrm_jax.nn.stencil import gaussian_taps

# On the gradient's magnitude for values in [0, 1], scikit-image's defaults.
_LOW, _HIGH = 0.1, 0.2
_GREY = np.asarray((0.2125, 0.7154, 0.0721), np.float32)  # of R, G, B: `skimage.color.rgb2gray`
_TINY = 1e-12  # smoothing where nothing is known gives 0


def grey(image: jax.Array) -> jax.Array:
    """0.2125 R + 0.7154 G + 0.0721 B of [N, H, W, 3], as [N, H, W, 1], in the units it has."""
    return (image * _GREY[None, None, None, :]).sum(-1, keepdims=True)


def canny(values: jax.Array, sigma: float, known: jax.Array | None = None) -> jax.Array:
    """Edges: ridges of the smoothed picture's gradient that hold together with a strong point.

    1. s = G_σ * (x · K) / G_σ * K, zeros outside; G_σ ends at 4σ.
    2. (g_y, g_x): 3×3 Sobel sums of s, unscaled, border pixels repeated; m = |g|.
    3. Candidates: m ≥ 0.1 and m ≥ both neighbours along ±g, each linearly interpolated between the
       two grid neighbours of g's octant. None at the picture's border or beside an unknown pixel.
    4. Edges: candidates connected (to any of 8 neighbours) with one of m ≥ 0.2.

    Args:
        values: [N, H, W, 1] in [0, 1].
        sigma: σ of the Gaussian [px].
        known: K, [N, H, W, 1], 1 where `values` may be looked at; None: everywhere.

    Returns:
        Float32 [N, H, W, 1], 1 on edges, else 0.
    """
    known = jnp.ones_like(values) if known is None else known
    values, known = jax.lax.stop_gradient((values.astype(jnp.float32), known.astype(jnp.float32)))
    smooth = _blurred(values * known, sigma) / (_blurred(known, sigma) + _TINY)
    g_y, g_x = _sobel(smooth)
    magnitude = jnp.sqrt(jnp.square(g_y) + jnp.square(g_x))
    # The border is excluded like what stands beside an unknown pixel: outside nothing is known.
    inside = 1.0 - _dilated(1.0 - known, outside=1.0)
    ridge = _is_ridge(magnitude, g_y, g_x) & (inside > 0.5) & (magnitude >= _LOW)
    return _connected(ridge.astype(jnp.float32), magnitude >= _HIGH)


def _blurred(x: jax.Array, sigma: float) -> jax.Array:
    """A Gaussian that ends at 4σ, normalised, over [N, H, W, 1] with zeros outside."""
    radius = int(4.0 * sigma + 0.5)
    kernel = jnp.asarray(gaussian_taps(2 * radius + 1, sigma), jnp.float32)
    for shape, pads in (
        ((-1, 1, 1, 1), [(radius, radius), (0, 0)]),
        ((1, -1, 1, 1), [(0, 0), (radius, radius)]),
    ):
        # Thresholds decide on what comes out: no short products, whatever is set for networks.
        x = jax.lax.conv_general_dilated(
            x,
            kernel.reshape(shape),
            (1, 1),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
    return x


def _shifted(x: jax.Array, down: int, right: int) -> jax.Array:
    """x(i + down, j + right) at (i, j) for shifts of -1, 0, 1; border pixels are repeated."""
    for axis, step in ((1, down), (2, right)):
        size = x.shape[axis]
        if step:
            inner = jax.lax.slice_in_dim(x, max(step, 0), size + min(step, 0), axis=axis)
            edge = (size - 1, size) if step > 0 else (0, 1)
            rim = jax.lax.slice_in_dim(x, *edge, axis=axis)
            x = jnp.concatenate([inner, rim] if step > 0 else [rim, inner], axis)
    return x


def _sobel(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Differences over rows and over columns, each summed 1-2-1 along the other axis."""
    g_y = _shifted(x, 1, 0) - _shifted(x, -1, 0)
    g_x = _shifted(x, 0, 1) - _shifted(x, 0, -1)
    g_y = _shifted(g_y, 0, -1) + 2.0 * g_y + _shifted(g_y, 0, 1)
    g_x = _shifted(g_x, -1, 0) + 2.0 * g_x + _shifted(g_x, 1, 0)
    return g_y, g_x


def _is_ridge(magnitude: jax.Array, g_y: jax.Array, g_x: jax.Array) -> jax.Array:
    """Whether the magnitude is at least that of both interpolated neighbours along ±g.

    With t = smaller / larger component of |g|, a neighbour is t · diagonal + (1 - t) · straight;
    the straight one lies along the larger component.
    """
    steep = jnp.abs(g_y) > jnp.abs(g_x)
    falling = (g_y >= 0.0) == (g_x >= 0.0)  # g points along the diagonal (1, 1) or (-1, -1)
    larger = jnp.maximum(jnp.abs(g_y), jnp.abs(g_x))
    t = jnp.minimum(jnp.abs(g_y), jnp.abs(g_x)) / jnp.maximum(larger, _TINY)

    def neighbour(sign: int) -> jax.Array:
        straight = jnp.where(steep, _shifted(magnitude, sign, 0), _shifted(magnitude, 0, sign))
        along, across = _shifted(magnitude, sign, sign), _shifted(magnitude, sign, -sign)
        # Of the other diagonal, the end that lies beside the straight neighbour.
        other = jnp.where(steep, across, _shifted(magnitude, -sign, sign))
        return t * jnp.where(falling, along, other) + (1.0 - t) * straight

    return (magnitude >= neighbour(1)) & (magnitude >= neighbour(-1))


def _dilated(x: jax.Array, outside: float = 0.0) -> jax.Array:
    """Maximum over 3×3 windows of [N, H, W, 1]."""
    for axis in (1, 2):
        pads = [(0, 0)] * 4
        pads[axis] = (1, 1)
        padded, size = jnp.pad(x, pads, constant_values=outside), x.shape[axis]
        parts = [jax.lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(3)]
        x = jnp.maximum(jnp.maximum(parts[0], parts[1]), parts[2])
    return x


def _connected(ridge: jax.Array, strong: jax.Array) -> jax.Array:
    """The parts of a ridge (0 or 1) that hold a strong point: these grow until nothing changes."""

    def grow(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        edges, _ = carry
        grown = jnp.minimum(_dilated(edges), ridge)
        return grown, jnp.max(grown - edges)

    start = ridge * strong.astype(jnp.float32)
    return jax.lax.while_loop(lambda carry: carry[1] > 0.0, grow, (start, jnp.float32(1.0)))[0]
