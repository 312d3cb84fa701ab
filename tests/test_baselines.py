import sys

import cv2
import numpy as np
import pytest
from patchmatch import patch_match
from skimage.restoration import inpaint_biharmonic

from gmsrm_jax.config import base_config
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.methods import CLASSICAL
from gmsrm_jax.methods.classical import check_packages
from gmsrm_jax.methods.filler import Filler
from gmsrm_jax.runtime.errors import UserError


@pytest.fixture(scope="module")
def examples():
    pictures = open_pictures("bundled:facades/test")
    images = np.stack([pictures.image(index)[:48, :48] for index in range(2)])
    masks = np.stack([center_mask(48, ratio) for ratio in (0.05, 0.2)])
    return images, masks


def filled(name, images, masks):
    network = (images / np.float32(127.5) - np.float32(1.0)) * (1 - masks)
    numbers = np.zeros(len(images), np.uint32)
    raw = Filler(CLASSICAL[name], base_config(), {}).raw(network, masks, numbers, numbers)
    assert raw.shape == images.shape
    assert raw.dtype == np.float32
    return (raw.astype(np.float64) + 1.0) * 127.5


@pytest.mark.parametrize(("name", "flag"), [("telea", cv2.INPAINT_TELEA), ("ns", cv2.INPAINT_NS)])
def test_opencv_fills_see_known_pixels_only(name, flag, examples):
    images, masks = examples
    result = filled(name, images, masks)
    for image, mask, pixels in zip(images, masks, result, strict=True):
        hole = mask[..., 0].astype(np.uint8)
        expected = cv2.inpaint(np.ascontiguousarray(image[..., ::-1]), hole, 3, flag)[..., ::-1]
        np.testing.assert_allclose(pixels[hole == 1], expected[hole == 1], atol=1e-3)
        np.testing.assert_allclose(pixels[hole == 0], image[hole == 0], atol=1e-3)


def test_biharmonic_is_scikit_image_s(examples):
    images, masks = (part[:1] for part in examples)
    result = filled("biharmonic", images, masks)[0]
    hole = masks[0, ..., 0] == 1
    expected = inpaint_biharmonic(images[0] / 255.0, hole, channel_axis=-1) * 255.0
    np.testing.assert_allclose(result[hole], np.clip(expected, 0, 255)[hole], atol=1e-2)


def test_patchmatch_copies_known_patches_and_repeats_itself(examples):
    images, masks = examples
    result = filled("patchmatch", images, masks)
    for image, mask, pixels in zip(images, masks, result, strict=True):
        hole = mask[..., 0] == 1
        expected = patch_match.inpaint(np.where(mask == 1, 9, image), hole, patch_size=3)
        np.testing.assert_allclose(pixels, expected, atol=1e-3)
        np.testing.assert_array_equal(expected[~hole], image[~hole])
    everything = filled("patchmatch", images, np.ones_like(masks))
    assert np.isfinite(everything).all()


def test_mean_colour(examples):
    images, masks = examples
    result = filled("mean", images, masks)
    for image, mask, pixels in zip(images, masks, result, strict=True):
        known = image[mask[..., 0] == 0].astype(np.float64).mean(0)
        np.testing.assert_allclose(pixels, np.broadcast_to(known, pixels.shape), atol=1e-3)


def test_a_missing_package_is_named_before_anything_is_filled(monkeypatch):
    check_packages(CLASSICAL.values())
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "skimage.restoration", None)
    check_packages([CLASSICAL["mean"], CLASSICAL["smooth"]])
    for name, package in (("ns", "opencv-python-headless"), ("biharmonic", "scikit-image")):
        with pytest.raises(UserError, match=package):
            check_packages([CLASSICAL[name]])
