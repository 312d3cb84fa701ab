"""Sharpness and texture against loops in float64, and what they say of blur and of a shift."""

import numpy as np
import pytest
from scipy import ndimage
from vgg_references import pictures

from gmsrm_jax.metrics.extra import sharpness
from gmsrm_jax.metrics.perceptual import VGG_HOLE_LAYER, texture
from gmsrm_jax.nn.vgg import features, load_vgg19

SIZE = 64


@pytest.fixture(scope="module")
def weights():
    return load_vgg19("bundled", (VGG_HOLE_LAYER,))


@pytest.fixture(scope="module")
def truth():
    return pictures(2, SIZE)


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((2, SIZE, SIZE, 1), np.uint8)
    mask[0, 9:50, 13:47] = 1
    mask[1] = np.random.default_rng(0).random((SIZE, SIZE, 1)) < 0.4
    return mask


def blurred(images: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(images.astype(np.float64), (0, 2, 2, 0)).astype(np.float32)


def test_blur_is_not_sharp_and_a_shift_is(truth, mask):
    assert (np.asarray(sharpness(blurred(truth), truth, mask)) < 0.7).all()
    shifted = np.roll(truth, 2, axis=2)
    np.testing.assert_allclose(sharpness(shifted, truth, mask), 1, atol=0.1)
    np.testing.assert_allclose(sharpness(truth, truth, mask), 1)


def test_sharpness_is_undefined_without_a_hole_or_a_gradient(truth, mask):
    assert np.isnan(sharpness(truth, truth, np.zeros_like(mask))).all()
    assert np.isnan(sharpness(truth, np.full_like(truth, 7), mask)).all()


def test_texture_compares_weighted_statistics_of_the_features(weights, truth, mask):
    prediction = blurred(truth)
    found = np.asarray(texture(weights, prediction, truth, mask))
    share = mask[..., 0].reshape(2, SIZE // 4, 4, SIZE // 4, 4).mean((2, 4), dtype=np.float64)
    for k in range(2):
        statistics = []
        for image in (prediction[k], truth[k]):
            maps = features(weights, image[None] / np.float32(127.5) - 1, (VGG_HOLE_LAYER,))[0][0]
            maps = np.asarray(maps, np.float64).reshape(-1, maps.shape[-1])
            mean = np.average(maps, axis=0, weights=share[k].ravel())
            variance = np.average((maps - mean) ** 2, axis=0, weights=share[k].ravel())
            statistics.append(np.concatenate([mean, np.sqrt(variance)]))
        wanted = np.abs(statistics[0] - statistics[1]).sum() / statistics[1].sum()
        assert found[k] == pytest.approx(wanted, rel=1e-4)


def test_texture_minds_blur_more_than_a_shift(weights, truth, mask):
    shifted = np.asarray(texture(weights, np.roll(truth, 4, axis=2), truth, mask))
    assert (shifted < 0.5 * np.asarray(texture(weights, blurred(truth), truth, mask))).all()
    np.testing.assert_allclose(texture(weights, truth, truth, mask), 0, atol=1e-6)
    assert np.isnan(texture(weights, truth, truth, np.zeros_like(mask))).all()
