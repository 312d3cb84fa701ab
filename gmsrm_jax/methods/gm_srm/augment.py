"""Augmentation of what stage 1's discriminator sees, for sets of a few hundred pictures.

Both the real and the generated images go through it, differentiably, so that the generator does
not learn the augmentation. Images are [N, H, W, 3] in [-1, 1]. What is random is drawn first, a
row for each image, so that one can draw for a whole batch and augment it in parts.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

# Coordinates and colours would be off by visible amounts in the short formats of accelerators.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class AdaDraws(NamedTuple):
    """What ADA draws for each image, put together.

    Attributes:
        inverse: [N, 3, 3], output to input coordinates in pixels from the centre.
        colour: [N, 3, 4], the affine map of colours.
    """

    inverse: jax.Array
    colour: jax.Array


def draw_ada(key: jax.Array, count: int, size: int, probability: jax.Array) -> AdaDraws:
    """Draws ADA's transformations for `count` images of size × size.

    Args:
        key: random key.
        count: number of images.
        size: their side [px].
        probability: p, a scalar in [0, 1].
    """
    key_geometry, key_colour = jax.random.split(key)
    return AdaDraws(
        _inverse_geometry(key_geometry, count, size, probability),
        _colour_matrix(key_colour, count, probability),
    )


def ada_augment(draws: AdaDraws, images: jax.Array) -> jax.Array:
    """Adaptive discriminator augmentation (Karras et al., arXiv 2006.06676), pipeline "bgc".

    Pixel blitting, general geometry and colour, each transformation with the given probability for
    each image. Geometry is one inverse affine map, read bilinearly with mirrored borders (the
    paper's wavelet low-pass is left out); colour is one 3×4 matrix.
    """
    warped, matrix = _warp(images, draws.inverse), draws.colour
    return _einsum("nhwc,ndc->nhwd", warped, matrix[:, :, :3]) + matrix[:, None, None, :, 3]


def adapt_probability(
    probability: jax.Array, sign: jax.Array, target: float, images: int, kimg: float
) -> jax.Array:
    """Moves ADA's p by images / (1000 · kimg), up while r_t is above its target, within [0, 1].

    Args:
        probability: p.
        sign: r_t, the mean sign of the discriminator's logits for real images.
        target: r_t that p is steered towards (0.6).
        images: images seen since p was last moved.
        kimg: thousand images in which p could go from 0 to 1 (500).
    """
    return jnp.clip(probability + jnp.sign(sign - target) * (images / (1000.0 * kimg)), 0.0, 1.0)


def _maybe(key: jax.Array, probability: jax.Array, value: jax.Array, neutral: float) -> jax.Array:
    """The value with the given probability, for each example; else the neutral element."""
    return jnp.where(jax.random.uniform(key, value.shape) < probability, value, neutral)


def _affine(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array, x: jax.Array, y: jax.Array):
    """Matrices [N, 3, 3] of the maps (x, y) to (a·x + b·y + tx, c·x + d·y + ty)."""
    zero, one = jnp.zeros_like(a), jnp.ones_like(a)
    rows = [jnp.stack([a, b, x], -1), jnp.stack([c, d, y], -1), jnp.stack([zero, zero, one], -1)]
    return jnp.stack(rows, 1)


def _inverse_geometry(key: jax.Array, n: int, size: int, p: jax.Array) -> jax.Array:
    """Maps output to input coordinates in pixels from the centre, [N, 3, 3]."""
    keys = iter(jax.random.split(key, 20))
    zero, one = jnp.zeros(n), jnp.ones(n)

    def scale(x: jax.Array, y: jax.Array) -> jax.Array:
        return _affine(x, zero, zero, y, zero, zero)

    def rotate(angle: jax.Array) -> jax.Array:
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return _affine(cos, -sin, sin, cos, zero, zero)

    def shift(x: jax.Array, y: jax.Array) -> jax.Array:
        return _affine(one, zero, zero, one, x, y)

    def uniform(low: float, high: float) -> jax.Array:
        return jax.random.uniform(next(keys), (n,), minval=low, maxval=high)

    def normal(deviation: float) -> jax.Array:
        return deviation * jax.random.normal(next(keys), (n,))

    def two(draw) -> tuple[jax.Array, jax.Array]:
        chosen = jax.random.uniform(next(keys), (n,)) < p
        return jnp.where(chosen, draw(), 0.0), jnp.where(chosen, draw(), 0.0)

    chosen = next(keys)
    mirror = jnp.where(uniform(-1.0, 1.0) < 0.0, -1.0, 1.0)
    steps = [scale(_maybe(chosen, p, mirror, 1.0), one)]
    quarters = jnp.floor(uniform(0.0, 4.0)) * (np.pi / 2)
    steps.append(rotate(_maybe(next(keys), p, quarters, 0.0)))
    x, y = two(lambda: jnp.round(uniform(-0.125, 0.125) * size))
    steps.append(shift(x, y))
    log2 = float(np.log(2.0))
    factor = jnp.exp(_maybe(next(keys), p, normal(0.2 * log2), 0.0))
    steps.append(scale(factor, factor))
    p_rotation = 1.0 - jnp.sqrt(jnp.clip(1.0 - p, 0.0, 1.0))
    steps.append(rotate(_maybe(next(keys), p_rotation, uniform(-np.pi, np.pi), 0.0)))
    factor = jnp.exp(_maybe(next(keys), p, normal(0.2 * log2), 0.0))
    steps.append(scale(factor, 1.0 / factor))
    steps.append(rotate(_maybe(next(keys), p_rotation, uniform(-np.pi, np.pi), 0.0)))
    x, y = two(lambda: normal(0.125) * size)
    steps.append(shift(x, y))
    total = steps[0]
    for matrix in steps[1:]:
        total = _einsum("nij,njk->nik", total, matrix)
    return total


def _warp(images: jax.Array, inverse: jax.Array) -> jax.Array:
    """Reads images [N, H, W, 3] at inverse [N, 3, 3] of each output pixel, bilinearly."""
    _, h, w, _ = images.shape
    middle = np.asarray([(w - 1) / 2, (h - 1) / 2, 0.0], np.float32)
    y, x = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    grid = np.stack([x, y, np.ones_like(x)], -1).astype(np.float32) - middle
    source = _einsum("nij,hwj->nihw", inverse, grid) + middle[None, :, None, None]

    def read(channel: jax.Array, at: jax.Array) -> jax.Array:
        return map_coordinates(channel, [at[1], at[0]], order=1, mode="mirror")

    return jax.vmap(jax.vmap(read, in_axes=(2, None), out_axes=2))(images, source)


def _colour_matrix(key: jax.Array, n: int, p: jax.Array) -> jax.Array:
    """Brightness, contrast, luma flip, hue and saturation as one [N, 3, 4] matrix."""
    keys = iter(jax.random.split(key, 10))
    eye = jnp.broadcast_to(jnp.eye(3)[None], (n, 3, 3))
    log2 = float(np.log(2.0))
    brightness = _maybe(next(keys), p, 0.2 * jax.random.normal(next(keys), (n,)), 0.0)
    contrast = jnp.exp(_maybe(next(keys), p, 0.5 * log2 * jax.random.normal(next(keys), (n,)), 0.0))
    axis = np.full((3,), 1.0 / np.sqrt(3.0), np.float32)
    luma = jnp.asarray(np.outer(axis, axis))[None]
    flip = _maybe(next(keys), p, jax.random.bernoulli(next(keys), 0.5, (n,)) * 1.0, 0.0)
    angle = jax.random.uniform(next(keys), (n,), minval=-np.pi, maxval=np.pi)
    angle = _maybe(next(keys), p, angle, 0.0)
    saturation = jnp.exp(_maybe(next(keys), p, log2 * jax.random.normal(next(keys), (n,)), 0.0))

    def column(values: jax.Array) -> jax.Array:
        return values[:, None, None]

    cross = np.asarray(
        [[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]], np.float32
    )
    cos, sin = column(jnp.cos(angle)), column(jnp.sin(angle))
    hue = cos * eye + sin * cross[None] + (1.0 - cos) * luma
    linear = eye - 2.0 * column(flip) * luma
    linear = _einsum("nij,njk->nik", hue, linear)
    saturate = luma + (eye - luma) * column(saturation)
    linear = _einsum("nij,njk->nik", saturate, linear)
    offset = _einsum(
        "nij,nj->ni", linear, jnp.tile(brightness[:, None], (1, 3)) * contrast[:, None]
    )
    return jnp.concatenate([linear * column(contrast), offset[:, :, None]], axis=2)
