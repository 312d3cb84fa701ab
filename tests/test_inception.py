"""FID's Inception against its definition in pytorch-fid, on random weights."""

import math
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from perceptual_weights import converted, inception_pictures, inception_state

from gmsrm_jax.foreign.networks import INCEPTION
from gmsrm_jax.metrics.inception import inception_features, inception_input, load_inception
from gmsrm_jax.runtime.errors import UserError

REFERENCES = pathlib.Path(__file__).parent / "data" / "perceptual_references.npz"
PICTURES = inception_pictures()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inception")
    with pytest.MonkeyPatch.context() as patch:
        return load_inception(str(converted(patch, folder, "inception", inception_state())))


@pytest.mark.parametrize("name", PICTURES)
def test_features_are_those_of_the_definition(weights, name):
    """Measured: 4e-6 where the largest feature is 11; the references are float64."""
    with np.load(REFERENCES) as file:
        expected = file[f"inception_{name}"]
    found = inception_features(weights, PICTURES[name])
    assert found.shape == expected.shape == (len(PICTURES[name]), 2048)
    assert found.dtype == jnp.float32
    # Zeros are features that a ReLU cut off; all others must agree one by one.
    assert (expected > 0.01).mean() > 0.5 and expected.std(1).min() > 0.5
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def bilinear(image, size):
    """Half-pixel centres, borders repeated, no smoothing; [H, W, C] in float64, one axis each."""
    for axis in (0, 1):
        length = image.shape[axis]
        place = (np.arange(size) + 0.5) * length / size - 0.5
        below = np.floor(place).astype(int)
        share = (place - below).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first = image.take(below.clip(0, length - 1), axis)
        second = image.take((below + 1).clip(0, length - 1), axis)
        image = first * (1 - share) + second * share
    return image


@pytest.mark.parametrize("name", PICTURES)
def test_input_is_resized_bilinearly_without_smoothing(name):
    found = inception_input(PICTURES[name])
    assert found.shape == (len(PICTURES[name]), 299, 299, 3) and found.dtype == jnp.float32
    for x, image in zip(found, PICTURES[name], strict=True):
        expected = 2 * bilinear(image / 255, 299) - 1
        # A weight's rounding grows with the size it divides: measured 4e-5.
        np.testing.assert_allclose(x, expected, rtol=0, atol=1e-4)


def test_images_of_299_pixels_are_only_scaled():
    images = np.random.default_rng(0).integers(0, 256, (1, 299, 299, 3), np.uint8)
    np.testing.assert_allclose(inception_input(images), images / 127.5 - 1, rtol=0, atol=1e-6)


def test_table_has_the_published_number_of_parameters():
    """Keras lists InceptionV3 without its classifier with 21,802,784 parameters.

    These are the kernels and, for each channel, an offset, a mean and a variance.
    """
    total = sum(math.prod(layer.kernel) + 3 * layer.kernel[3] for layer in INCEPTION.values())
    assert total == 21_802_784 and len(INCEPTION) == 94


@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 64, 64, 1), (1, 1, 64, 64, 3)])
def test_other_shapes_are_refused(weights, shape):
    with pytest.raises(ValueError, match=r"\[N, H, W, 3\]"):
        inception_features(weights, np.zeros(shape, np.uint8))


def test_missing_file_says_what_to_fetch_and_how_to_convert(tmp_path):
    path = tmp_path / "inception.safetensors"
    with pytest.raises(UserError) as error:
        load_inception(str(path))
    message, name = str(error.value), "pt_inception-2015-12-05-6726825d.pth"
    assert f"github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{name}" in message
    assert f"`gmsrm convert inception --input {name} --output {path}`" in message
    assert "\n" not in message
