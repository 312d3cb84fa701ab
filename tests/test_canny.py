"""Canny edges against scikit-image, with and without a part that is not known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.feature import canny as reference

from gmsrm_jax.assets import asset_path
from gmsrm_jax.data.decoding import decode_image, resize_for_test
from gmsrm_jax.data.listing import list_images
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.nn.canny import canny, grey


def edges(values: np.ndarray, sigma: float = 2.0, known: np.ndarray | None = None) -> np.ndarray:
    """Edges of one picture [H, W] as bool."""
    given = [jnp.float32(a)[None, ..., None] for a in (values, known) if a is not None]
    found = jax.jit(lambda x, k=None: canny(x, sigma, k))(*given)
    assert found.dtype == jnp.float32
    assert set(np.unique(found)) <= {0.0, 1.0}
    return np.asarray(found[0, ..., 0]) > 0


@functools.cache
def photographs(size: int) -> np.ndarray:
    """uint8 [3, size, size, 3]."""
    paths = list_images(asset_path("facades/test"))[:3]
    whole = [decode_image(path.read_bytes()) for path in paths]
    return np.stack([resize_for_test(image, size, 1.25, "shorter_side") for image in whole])


def test_grey_is_that_of_scikit_image():
    image = photographs(64)
    found = grey(jnp.float32(image) / 255.0)
    np.testing.assert_allclose(found[..., 0], rgb2gray(image), atol=1e-6)


@pytest.mark.parametrize("sigma", [1.5, 2.0])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_photographs_pixel_by_pixel(sigma, share):
    known = 1.0 - center_mask(256, share)[..., 0] if share else None
    for picture in rgb2gray(photographs(256)):
        expected = reference(picture, sigma, mask=None if known is None else known > 0)
        assert expected.sum() > 1000
        np.testing.assert_array_equal(edges(picture, sigma, known), expected)


def test_what_is_not_known_is_not_looked_at():
    picture, hole = rgb2gray(photographs(64))[0], center_mask(64, 0.3)[..., 0]
    other = np.where(hole > 0, np.random.default_rng(0).uniform(size=hole.shape), picture)
    np.testing.assert_array_equal(edges(picture, 2.0, 1 - hole), edges(other, 2.0, 1 - hole))


@pytest.mark.parametrize(("height", "count"), [(1.0, 30), (0.14, 30), (0.13, 0)])
def test_a_step_is_one_column_if_it_is_high_enough(height, count):
    picture = np.zeros((32, 32))
    picture[:, 15], picture[:, 16:] = 0.5 * height, height
    found = edges(picture)
    assert found.sum() == count
    assert found[1:31, 15].sum() == count


def test_disc_and_noise():
    rows, columns = np.mgrid[:64, :64]
    disc = np.hypot(rows - 31.5, columns - 31.5) <= 15
    assert edges(disc.astype(float)).sum() == 100
    noise = np.random.default_rng(0).uniform(0.50, 0.55, (64, 64))
    hole = (slice(20, 44), slice(20, 44))
    noise[hole] = 0
    known = np.ones((64, 64))
    known[hole] = 0
    assert 85 <= edges(noise).sum() <= 100
    np.testing.assert_array_equal(edges(noise), reference(noise, 2.0))
    assert edges(noise, 2.0, known).sum() == 0


@pytest.mark.parametrize("known", [0.0, 1.0])
def test_nothing_known_and_everything(known):
    picture = rgb2gray(photographs(64))[0]
    found = edges(picture, 2.0, np.full((64, 64), known))
    expected = reference(picture, 2.0) if known else np.zeros((64, 64), bool)
    np.testing.assert_array_equal(found, expected)


def test_weak_parts_are_kept_as_far_as_they_hold_together():
    """One line whose contrast falls: skimage's labels and the growing agree over its length."""
    picture = np.zeros((48, 96))
    picture[24:] = np.linspace(0.25, 0.0, 96)
    picture[23] = 0.5 * picture[24]
    expected = reference(picture, 1.0)
    assert 70 < expected.any(0).sum() < 90
    np.testing.assert_array_equal(edges(picture, 1.0), expected)


def test_there_is_no_gradient():
    picture = jnp.float32(rgb2gray(photographs(32))[:1])[..., None]
    gradient = jax.grad(lambda x: canny(x, 2.0).sum() + (0.0 * x).sum())(picture)
    assert not np.any(gradient)
