"""The smooth filling against a float64 recursion, its promises, and OpenCV on photographs."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from small_networks import SIZE, abstract_inputs, compiled, filled_by_hand, inputs, shapes_of, small

from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.methods.classical import CLASSICAL
from gmsrm_jax.nn.smooth_fill import smooth_fill


def reference(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pull-push of one picture [S, S, C] with weights [S, S], by recursion over squares."""
    average = image / np.maximum(known, 1e-6)[..., None]
    if len(image) == 1:
        return average
    half = len(image) // 2
    coarse, weight = np.zeros((half, half, image.shape[2])), np.zeros((half, half))
    for i in range(half):
        for j in range(half):
            square = (slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
            coarse[i, j], weight[i, j] = image[square].mean((0, 1)), known[square].mean()
    below = reference(coarse, weight)
    # OpenCV's linear resize has half-pixel centres and repeats the border.
    up = cv2.resize(below, (2 * half, 2 * half), interpolation=cv2.INTER_LINEAR)
    share = np.minimum(8 * known, 1)[..., None]
    return share * average + (1 - share) * up.reshape(image.shape)


def fill(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.asarray(compiled(smooth_fill)(jnp.float32(image), jnp.float32(mask)))


@pytest.fixture(scope="module")
def holed() -> tuple[np.ndarray, np.ndarray]:
    """Colours, and holes of single pixels, of all but one corner, and of a half."""
    rng = np.random.default_rng(5)
    mask = np.zeros((3, 16, 16, 1))
    mask[0] = rng.random((16, 16, 1)) < 0.5
    mask[1], mask[1, :1, :1] = 1, 0
    mask[2, :, 5:13] = 1
    return rng.uniform(-1, 1, (3, 16, 16, 3)), mask


def test_it_is_the_recursion(holed):
    images, masks = holed
    for image, mask, got in zip(images, masks, fill(images, masks), strict=True):
        np.testing.assert_allclose(got, reference(image * (1 - mask), 1 - mask[..., 0]), atol=1e-5)


def test_known_pixels_stay_and_the_hole_is_not_looked_at(holed):
    images, masks = holed
    first = fill(images, masks)
    np.testing.assert_allclose(first * (1 - masks), images * (1 - masks), atol=1e-6)
    np.testing.assert_array_equal(first, fill(np.where(masks == 1, 9.0, images), masks))
    assert np.abs(first - fill(-images, masks)).max() > 0.1
    # One colour is continued, however little of it is known; nothing known gives mid-grey.
    np.testing.assert_allclose(fill(np.full_like(images, 0.7), masks), 0.7, atol=1e-5)
    assert not np.any(fill(images, np.ones_like(masks)))


def test_on_photographs_it_is_near_the_navier_stokes_fill():
    pictures = open_pictures("bundled:facades/test")
    images = np.stack([pictures.image(index)[:128, :128] for index in range(0, 60, 10)])
    masks = np.stack([center_mask(128, 0.25)] * len(images))
    network = (images / 127.5 - 1) * (1 - masks)
    psnr = {}
    for name in ("smooth", "ns", "mean"):
        raw = CLASSICAL[name].fill(ConfigDict(), {}, np.float32(network), np.float32(masks), {})
        error = np.square((np.float64(raw) + 1) * 127.5 - images).mean((1, 2, 3))
        psnr[name] = np.mean(10 * np.log10(255.0**2 / error))
    assert psnr["mean"] + 0.5 < psnr["smooth"]
    assert abs(psnr["smooth"] - psnr["ns"]) < 0.7, psnr


def test_a_network_with_the_skip_corrects_the_smooth_fill():
    """It begins with no correction, and adds no parameter."""
    network = small("gm_srm", smooth_skip=True, smooth_residual="tanh")
    given = abstract_inputs(SIZE)
    shapes = shapes_of(network, *given)
    assert shapes == shapes_of(small("gm_srm"), *given)
    params = filled_by_hand(shapes)
    image, mask, noise = inputs()
    run = compiled(network.apply)
    corrected = run({"params": params}, image, mask, noise).image
    init = compiled(network.init)(jax.random.key(0, impl="unsafe_rbg"), image, mask, noise)
    beginning = {**params, "output": init["params"]["output"]}
    plain = run({"params": beginning}, image, mask, noise).image
    np.testing.assert_allclose(plain, 0.98 * fill(image, mask), atol=1e-5)
    without = compiled(small("gm_srm").apply)({"params": params}, image, mask, noise).image
    # tanh(a + b) from tanh(a) and tanh(b).
    both = np.float64(without), np.float64(plain)
    expected = (both[0] + both[1]) / (1 + both[0] * both[1])
    np.testing.assert_allclose(corrected, expected, atol=1e-3)
