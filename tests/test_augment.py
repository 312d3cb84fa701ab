"""Augmentation: what it leaves alone, and the statistics of each transformation in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import compiled

from gmsrm_jax.methods.gm_srm.augment import (
    ada_augment,
    adapt_probability,
    draw_ada,
)

SIZE = 32


def ada(key, images, probability):
    return ada_augment(draw_ada(key, len(images), SIZE, probability), images)


_ada = compiled(ada)


def constant(count: int, *colour: float) -> np.ndarray:
    return np.broadcast_to(np.float32(colour), (count, SIZE, SIZE, 3)).copy()


def test_ada_without_probability_is_the_identity():
    images = np.random.default_rng(1).uniform(-1, 1, (4, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(_ada(jax.random.key(0), images, 0.0), images, atol=1e-6)


def test_ada_is_affine_in_the_image_and_has_that_derivative():
    rng = np.random.default_rng(2)
    images, direction, weights = rng.normal(size=(3, 6, SIZE, SIZE, 3)).astype(np.float32)
    key = jax.random.key(3)
    change = np.asarray(_ada(key, images + direction, 1.0) - _ada(key, images, 1.0), np.float64)
    zero = np.zeros_like(images)
    linear = np.asarray(_ada(key, direction, 1.0) - _ada(key, zero, 1.0))
    np.testing.assert_allclose(change, linear, atol=2e-4)
    slope = compiled(jax.grad(lambda x: (ada(key, x, jnp.ones(())) * weights).sum()))(images)
    np.testing.assert_allclose((slope * direction).sum(), (change * weights).sum(), rtol=1e-3)
    assert np.abs(change).mean() > 0.1


def test_ada_colours_have_the_moments_of_their_factors():
    count, key = 3000, jax.random.key(4)
    middle = (slice(None), SIZE // 2, SIZE // 2)
    black, grey, chroma = (
        np.asarray(_ada(key, constant(count, *colour), 1.0), np.float64)[middle]
        for colour in ((0, 0, 0), (1, 1, 1), (1, -1, 0))
    )
    # Brightness N(0, 0.2²) times contrast 2^N(0, 0.5²), the same in all channels.
    np.testing.assert_allclose(black, black[:, :1].repeat(3, 1), atol=1e-4)
    variance = 0.04 * np.exp(2 * (0.5 * np.log(2)) ** 2)
    np.testing.assert_allclose(black[:, 0].var(), variance, rtol=0.1)
    contrast = (grey - black).mean(1)
    np.testing.assert_allclose((contrast < 0).mean(), 0.5, atol=0.03)  # luma flip
    log = np.log2(np.abs(contrast))
    np.testing.assert_allclose([log.mean(), log.std()], [0, 0.5], atol=0.03)
    # Hue turns around the grey axis by any angle, saturation 2^N(0, 1) scales the distance to it.
    chroma = chroma - black
    np.testing.assert_allclose(chroma.sum(1), 0, atol=1e-4)
    log = np.log2(np.linalg.norm(chroma, axis=1) / np.sqrt(2) / np.abs(contrast))
    np.testing.assert_allclose([log.mean(), log.std()], [0, 1], atol=0.06)
    direction = chroma / np.linalg.norm(chroma, axis=1, keepdims=True)
    np.testing.assert_allclose(direction.mean(0), 0, atol=0.04)


def inverse_maps(key: jax.Array, probability: float) -> tuple[np.ndarray, np.ndarray]:
    """Linear part [N, 2, 2] and shift [N, 2] of the map from output to input pixels.

    A ramp tells where each pixel was read; black and white pictures undo the colour.
    """
    count, at = 3000, np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    ramps = [
        np.broadcast_to(ramp[None, :, :, None], (count, SIZE, SIZE, 3))
        for ramp in (np.tile(at[None], (SIZE, 1)), np.tile(at[:, None], (1, SIZE)))
    ]
    black, white = (
        np.asarray(_ada(key, constant(count, *[v] * 3), probability), np.float64) for v in (0, 1)
    )
    source = [
        ((np.asarray(_ada(key, ramp, probability)) - black) / (white - black)).mean(3)
        for ramp in ramps
    ]
    m = SIZE // 2
    window = np.stack(source, 1)[:, :, m - 1 : m + 1, m - 1 : m + 1]  # [N, xy, row, column]
    across = (window[..., 1] - window[..., 0]).mean(2)
    down = (window[..., 1, :] - window[..., 0, :]).mean(2)
    shift = window.mean((2, 3))
    inside = np.all(np.abs(shift) < SIZE / 2 - 3, axis=1)  # elsewhere the border mirrors the ramp
    assert inside.mean() > 0.98
    return np.stack([across, down], 2)[inside], shift[inside]


def test_ada_geometry_has_the_moments_of_its_factors():
    linear, shift = inverse_maps(jax.random.key(5), 1.0)
    determinant = np.linalg.det(linear)
    assert np.abs(determinant).min() > 0.1  # 2^(-0.4 · 8.3): no picture is squeezed to a line
    np.testing.assert_allclose((determinant < 0).mean(), 0.5, atol=0.03)  # mirrored
    scale = 0.5 * np.log2(np.abs(determinant))
    np.testing.assert_allclose([scale.mean(), scale.std()], [0, 0.2], atol=0.02)
    values = np.linalg.svd(linear, compute_uv=False)
    stretch = np.log2(values[:, 0] / values[:, 1]) / 2
    np.testing.assert_allclose(np.square(stretch).mean(), 0.2**2, rtol=0.1)
    np.testing.assert_allclose(linear.mean(0), 0, atol=0.05)  # turned by any angle
    whole = np.square(np.round(np.linspace(-4, 4, 80_001))).mean()
    part = (0.125 * SIZE) ** 2 * np.exp(2 * (0.2 * np.log(2)) ** 2) ** 2
    np.testing.assert_allclose(shift.mean(0), 0, atol=0.3)
    np.testing.assert_allclose(shift.var(0), whole + part, rtol=0.12)


def test_ada_applies_each_transformation_with_its_probability():
    linear, shift = inverse_maps(jax.random.key(6), 0.5)
    np.testing.assert_allclose((np.linalg.det(linear) < 0).mean(), 0.5 / 2, atol=0.03)
    size = np.abs(linear)
    straight = (size[:, 0, 1] < 0.02) & (size[:, 1, 0] < 0.02)
    crossed = (size[:, 0, 0] < 0.02) & (size[:, 1, 1] < 0.02)
    # Two rotations, each with 1 - sqrt(1 - p), so that one of them happens with p.
    np.testing.assert_allclose((straight | crossed).mean(), 0.5, atol=0.03)
    np.testing.assert_allclose(crossed.sum() / (straight | crossed).sum(), 0.25, atol=0.04)
    still = np.all(np.abs(shift) < 1e-2, axis=1)
    np.testing.assert_allclose(still.mean(), 0.5 * (0.5 + 0.5 / 8**2), atol=0.04)
    key, count = jax.random.key(7), 3000
    black, grey = (np.asarray(_ada(key, constant(count, *[v] * 3), 0.5)) for v in (0, 1))
    contrast = (grey - black)[:, 0, 0, 0]
    np.testing.assert_allclose((np.abs(np.abs(contrast) - 1) < 1e-5).mean(), 0.5, atol=0.03)
    np.testing.assert_allclose((contrast < 0).mean(), 0.25, atol=0.03)
    np.testing.assert_allclose((np.abs(black[:, 0, 0, 0]) < 1e-6).mean(), 0.5, atol=0.03)


@pytest.mark.parametrize(
    ("p", "sign", "moved"),
    [
        (0.5, 0.9, 0.5 + 128 / 500_000),
        (0.5, 0.3, 0.5 - 128 / 500_000),
        (0.5, 0.6, 0.5),
        (0.0, 0.1, 0.0),
        (1.0, 0.7, 1.0),
    ],
)
def test_ada_probability_steers_towards_its_target(p, sign, moved):
    got = adapt_probability(jnp.asarray(p), jnp.asarray(sign, jnp.float32), 0.6, 128, 500.0)
    np.testing.assert_allclose(got, moved, rtol=1e-6)
