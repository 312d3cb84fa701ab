"""Partial convolution against loops in float64, and against tables made by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from partial_references import reference
from small_networks import compiled

from gmsrm_jax.nn.partial import Known, PartialConv, box_sum, dilated, partial_conv


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def square_hole(size: int, side: int) -> np.ndarray:
    """Mask [1, size, size, 1] of what is known around a centre square; offsets rounded down."""
    known = np.ones((1, size, size, 1), np.float32)
    start = (size - side) // 2
    known[:, start : start + side, start : start + side] = 0
    return known


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 2), (7, 2), (7, 1)])
def test_two_groups_are_one_mask_for_every_channel(size: int, stride: int) -> None:
    rng = np.random.default_rng(size)
    values = [normal(1, 2, 8, 8, 3), normal(2, 2, 8, 8, 5)]
    masks = [(rng.random((2, 8, 8, 1)) < share).astype(np.float32) for share in (0.5, 0.05)]
    kernel, bias = normal(3, size, size, 8, 4), normal(4, 4)
    groups = [Known(jnp.asarray(v), jnp.asarray(m)) for v, m in zip(values, masks, strict=True)]
    y, mask = partial_conv(groups, jnp.asarray(kernel), jnp.asarray(bias), stride)
    every = np.concatenate([np.repeat(masks[0], 3, -1), np.repeat(masks[1], 5, -1)], -1)
    for n in range(2):
        expected = reference(np.concatenate(values, -1)[n], every[n], kernel, bias, stride)
        np.testing.assert_allclose(y[n], expected[0], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(mask[n], expected[1])
    assert mask.shape == (2, 8 // stride, 8 // stride, 1)


def ones_layer(known: np.ndarray, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A 3×3 kernel of ones on ones, bias 0.5."""
    group = Known(jnp.ones(known.shape), jnp.asarray(known))
    y, mask = partial_conv([group], jnp.ones((3, 3, 1, 1)), jnp.full((1,), 0.5), stride)
    return np.asarray(y)[0, ..., 0], np.asarray(mask)[0, ..., 0]


def test_an_all_known_mask_rescales_the_border() -> None:
    y, mask = ones_layer(np.ones((1, 5, 5, 1), np.float32))
    np.testing.assert_array_equal(y, 9.5)
    np.testing.assert_array_equal(mask, 1)


def test_a_hole_in_the_corner() -> None:
    known = np.ones((1, 5, 5, 1), np.float32)
    known[:, 2:, 2:] = 0
    counts = [[4, 6, 6, 6, 4], [6, 8, 7, 6, 4], [6, 7, 5, 3, 2], [6, 6, 3, 0, 0], [4, 4, 2, 0, 0]]
    np.testing.assert_array_equal(box_sum(jnp.asarray(known), 3)[0, ..., 0], counts)
    y, mask = ones_layer(known)
    expected = np.full((5, 5), 9.5)
    expected[3:, 3:] = 0
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(mask, expected > 0)


def test_a_hole_under_stride_2() -> None:
    known = square_hole(8, 4)
    counts = [[4, 6, 6, 6], [6, 5, 3, 7], [6, 3, 0, 6], [6, 7, 6, 8]]
    np.testing.assert_array_equal(box_sum(jnp.asarray(known), 3, 2)[0, ..., 0], counts)
    _, mask = ones_layer(known, 2)
    np.testing.assert_array_equal(mask, np.asarray(counts) > 0)


def test_holes_close_level_by_level() -> None:
    """Centre holes of 25 % and 50 % of 256 px, in pixels at each level."""

    def masks_of(mask: jax.Array) -> list[jax.Array]:
        x = Known(jnp.zeros((2, 256, 256, 1)), mask)
        masks = [mask]
        for size in (7, 5, 5, 3, 3, 3, 3, 3):
            x = partial_conv([x], jnp.ones((size, size, 1, 1)), stride=2)
            masks.append(x.mask)
        return masks

    known = np.concatenate([square_hole(256, side) for side in (128, 181)])
    masks = compiled(masks_of)(known)
    np.testing.assert_array_equal(
        np.transpose([(1 - mask).sum((1, 2, 3)) for mask in masks]),
        [[16384, 3721, 841, 169, 25, 1, 0, 0, 0], [32761, 7744, 1764, 361, 81, 9, 1, 0, 0]],
    )
    assert masks[-1].shape == (2, 1, 1, 1)


def test_scaling_the_input_scales_a_layer_without_bias() -> None:
    known = jnp.asarray(square_hole(8, 5))
    x, kernel = jnp.asarray(normal(1, 1, 8, 8, 3)), jnp.asarray(normal(2, 3, 3, 3, 4))
    y = partial_conv([Known(x, known)], kernel).values
    np.testing.assert_array_equal(partial_conv([Known(4 * x, known)], kernel).values, 4 * y)


def test_unknown_values_are_not_looked_at() -> None:
    known = jnp.asarray(square_hole(8, 5))
    x, kernel = jnp.asarray(normal(1, 1, 8, 8, 3)), jnp.asarray(normal(2, 3, 3, 3, 4))
    other = jnp.where(known > 0, x, -100.0)
    first, second = (partial_conv([Known(v, known)], kernel) for v in (x, other))
    np.testing.assert_array_equal(first.values, second.values)


def test_masks_are_constants_and_gradients_those_of_finite_differences() -> None:
    known = jnp.asarray(square_hole(8, 4))
    x, kernel = jnp.asarray(normal(1, 1, 8, 8, 2)), jnp.asarray(normal(2, 3, 3, 2, 3))

    def loss(x: jax.Array, known: jax.Array) -> jax.Array:
        return jnp.square(partial_conv([Known(x, known)], kernel).values).mean()

    by_values, by_mask = jax.grad(loss, (0, 1))(x, known)
    np.testing.assert_array_equal(by_mask, 0)
    np.testing.assert_array_equal(by_values * (1 - known), 0)
    direction = jnp.asarray(normal(3, 1, 8, 8, 2))
    ends = [loss(x + step * direction, known) for step in (1e-2, -1e-2)]
    np.testing.assert_allclose(
        jnp.vdot(by_values, direction), (ends[0] - ends[1]) / 2e-2, rtol=1e-3
    )


def test_an_unknown_picture_gives_zeros_without_the_bias() -> None:
    layer = PartialConv(4, 3, use_bias=True)
    group = Known(jnp.asarray(normal(1, 1, 4, 4, 2)), jnp.zeros((1, 4, 4, 1)))
    params: Any = layer.init(jax.random.key(0), group)["params"]
    params = {**params, "bias": jnp.ones(4)}
    y = layer.apply({"params": params}, group)
    np.testing.assert_array_equal(y.values, 0)
    np.testing.assert_array_equal(y.mask, 0)


def test_bfloat16_keeps_counts_and_masks_exact() -> None:
    known = jnp.asarray(square_hole(16, 6))
    x, kernel = jnp.asarray(normal(1, 1, 16, 16, 8)), jnp.asarray(normal(2, 7, 7, 8, 4))
    exact = partial_conv([Known(x, known)], kernel, stride=2)
    short = partial_conv([Known(x.astype(jnp.bfloat16), known)], kernel, stride=2)
    assert short.values.dtype == jnp.bfloat16 and short.mask.dtype == jnp.float32
    np.testing.assert_array_equal(short.mask, exact.mask)
    spread = np.abs(exact.values).mean()
    assert np.abs(short.values.astype(jnp.float32) - exact.values).mean() < 0.01 * spread


def test_dilated_grows_by_one_pixel_to_all_sides() -> None:
    mask = np.zeros((1, 5, 5, 1), np.float32)
    mask[0, 0, 1] = 1
    expected = np.zeros((5, 5))
    expected[:2, :3] = 1
    np.testing.assert_array_equal(dilated(jnp.asarray(mask))[0, ..., 0], expected)
