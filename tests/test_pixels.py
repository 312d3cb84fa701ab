"""uint8 and [-1, 1], and composites, against exact fractions, for NumPy and for JAX arrays."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmsrm_jax.runtime.pixels import composite, to_bytes, to_levels, to_signed

KINDS = pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])


@KINDS
def test_every_byte_comes_back(kind):
    image = kind(np.arange(256, dtype=np.uint8))
    signed = to_signed(image)
    assert signed.dtype == np.float32 and type(signed) is type(image)
    exact = [float(Fraction(2 * value, 255) - 1) for value in range(256)]
    np.testing.assert_allclose(signed, exact, atol=1e-7)
    assert (signed[0], signed[255]) == (-1.0, 1.0)
    back = to_bytes(signed)
    assert back.dtype == np.uint8 and type(back) is type(image)
    np.testing.assert_array_equal(back, image)


@KINDS
def test_values_beyond_are_clipped_and_halves_go_to_even(kind):
    signed = kind(np.array([-3.0, -1.0, 0.0, 0.0040, 1.0, 7.0], np.float32))
    np.testing.assert_array_equal(to_bytes(signed), [0, 0, 128, 128, 255, 255])  # 127.5 to 128
    np.testing.assert_allclose(to_levels(signed), [0.0, 0.0, 127.5, 128.01, 255.0, 255.0])


@KINDS
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_composite_has_the_very_values_of_both(kind, dtype):
    random = np.random.default_rng(0)
    image, filled = (random.uniform(0, 255, (2, 5, 5, 3)).astype(dtype) for _ in range(2))
    mask = random.integers(0, 2, (2, 5, 5, 1), np.uint8)
    expected = np.where(mask == 1, filled, image)
    for hole in (mask, mask.astype(np.float32), mask.astype(bool)):
        found = composite(kind(image), kind(filled), kind(hole))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(jax.jit(composite)(image, filled, hole), expected)
