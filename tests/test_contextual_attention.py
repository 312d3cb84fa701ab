"""Contextual attention against loops in float64, and what is known of it without computing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_references import by_loops, corner_grid
from small_networks import compiled, normal

from gmsrm_jax.nn.contextual_attention import contextual_attention, halved, known_patches


@functools.cache
def program(fuse: bool = True, grid: str = "even"):
    return compiled(functools.partial(contextual_attention, fuse=fuse, grid=grid))


def attended(x, mask, fuse=True, grid="even"):
    return np.asarray(program(fuse, grid)(jnp.float32(x), jnp.float32(mask)))


@pytest.mark.parametrize(("fuse", "grid"), [(True, "even"), (False, "even"), (True, "corners")])
def test_it_is_what_loops_give(fuse, grid):
    """Two examples with holes of their own: a port is known that takes the first one's for all."""
    x = 0.3 * normal(0, 2, 12, 12, 2)
    mask = np.zeros((2, 48, 48, 1), np.float32)
    mask[0, 10:26, 8:22], mask[1, 30:40, 2:30] = 1, 1
    found = attended(x, mask, fuse, grid)
    for index in range(2):
        expected = by_loops(np.float64(x[index]), mask[index, ..., 0], fuse, grid)
        np.testing.assert_allclose(found[index], expected, atol=2e-5)
    np.testing.assert_allclose(attended(x[::-1], mask[::-1], fuse, grid), found[::-1], atol=1e-6)
    other = found[0] - attended(x[:1], mask[1:], fuse, grid)[0]
    assert np.abs(other).max() > 0.05


@pytest.mark.parametrize("fuse", [True, False])
def test_a_periodic_map_is_painted_as_it_was(fuse):
    x = np.tile(normal(3, 8, 8, 16), (4, 4, 1))[None]
    mask = np.zeros((1, 32, 32, 1), np.float32)
    mask[:, 12:20, 12:20] = 1
    found = attended(x, mask, fuse)
    np.testing.assert_allclose(found[:, 12:20, 12:20], x[:, 12:20, 12:20], atol=1e-5)
    np.testing.assert_allclose(found[:, 4:-4, 4:-4], x[:, 4:-4, 4:-4], atol=1e-5)
    # A corner is in one patch of four.
    np.testing.assert_allclose(found[:, 0, 0], x[:, 0, 0] / 4, atol=1e-5)


def test_masked_scores_count_as_zero_and_not_as_nothing():
    """Zeros match everything alike: each weight is 1 / 256, those of keys in the hole are lost."""
    x = np.zeros((1, 32, 32, 2), np.float32)
    x[..., 1] = 1e-6  # too small for the scores to differ
    mask = np.zeros((1, 32, 32, 1), np.float32)
    mask[:, 12:20, 12:20] = 1
    valid = np.asarray(known_patches(mask, 16, "even")).sum()
    assert valid == 220
    painted = attended(x, mask)
    # A pixel is in four patches; in two directions the outermost 16 keys have a zero there.
    share = (220 + 2 * (220 - 16) + (220 - 31)) / 4 / 256
    np.testing.assert_allclose(painted[0, 12:20, 12:20, 1], 1e-6 * share, rtol=1e-4)
    assert not attended(np.zeros_like(x), mask).any()


def test_everything_unknown_gives_zeros_and_finite_gradients():
    x, ones = normal(1, 2, 8, 8, 3), np.ones((2, 32, 32, 1), np.float32)
    assert not attended(x, ones).any()

    def total(x, mask):
        return jnp.square(contextual_attention(x, mask) - 1).sum()

    gradient = compiled(jax.grad(total))
    for values, mask in ((x, ones), (0 * x, ones), (0 * x, 0 * ones), (x, 0 * ones)):
        assert np.isfinite(gradient(jnp.float32(values), jnp.float32(mask))).all()


@pytest.mark.parametrize(("side", "keys"), [(128, 700), (181, 399)])
def test_keys_that_centre_holes_leave(side, keys):
    first = (256 - side) // 2
    mask = np.zeros((1, 256, 256, 1), np.float32)
    mask[:, first : first + side, first : first + side] = 1
    known = known_patches(mask, 32, "even")
    assert known.shape == (1, 32, 32, 1) and known.sum() == keys


def test_grids_of_the_halved_map():
    row = jnp.broadcast_to(jnp.arange(64.0)[None, :, None, None], (1, 64, 64, 1))
    assert list(halved(row, "even")[0, :, 0, 0]) == list(range(0, 64, 2))
    kept = [int(value) for value in halved(row, "corners")[0, :, 0, 0]]
    assert kept == corner_grid(64)
    assert kept[:2] == [0, 2] and kept[14:18] == [28, 30, 33, 35] and kept[-1] == 63


def test_short_formats_keep_the_softmax():
    x, mask = normal(1, 1, 8, 8, 4), np.zeros((1, 32, 32, 1), np.float32)
    mask[:, 8:16, 8:16] = 1
    short = program()(jnp.bfloat16(x), jnp.float32(mask))
    assert short.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(short), attended(x, mask), atol=0.1)
