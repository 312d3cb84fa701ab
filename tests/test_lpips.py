"""LPIPS against the package lpips, on random weights (see perceptual_weights.py)."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perceptual_weights import backbone_state, converted, heads_state, picture_pairs, pictures

from gmsrm_jax.foreign.networks import ALEXNET, VGG16
from gmsrm_jax.metrics.lpips import Lpips, load_lpips
from gmsrm_jax.metrics.perceptual import DEFINITIONS, TEXTURE, VGG_HOLE, lpips
from gmsrm_jax.runtime.errors import UserError

REFERENCES = pathlib.Path(__file__).parent / "data" / "perceptual_references.npz"
NETS = ("vgg", "alex")
PAIRS = picture_pairs()


@pytest.fixture(scope="module", params=NETS)
def weights(request, tmp_path_factory):
    net, folder = request.param, tmp_path_factory.mktemp("lpips")
    states = backbone_state(f"lpips_{net}"), heads_state(f"lpips_{net}")
    with pytest.MonkeyPatch.context() as patch:
        return load_lpips(str(converted(patch, folder, f"lpips_{net}", *states)), net)


@pytest.mark.parametrize("name", PAIRS)
def test_every_share_is_that_of_the_definition(weights, name):
    """Measured: 2e-6 of the share; the references are float64."""
    prediction, target = PAIRS[name]
    with np.load(REFERENCES) as file:
        expected = file[f"lpips_{weights.net}_{name}"]
    images = (jnp.asarray(x, jnp.float32) / 127.5 - 1 for x in (prediction, target))
    shares = jax.jit(Lpips(weights.net).apply)({"params": weights.params}, *images)
    assert shares.shape == expected.shape == (len(target), 5)
    assert expected.min() > 1e-3
    np.testing.assert_allclose(shares, expected, rtol=2e-5)
    distance = lpips(weights, prediction, target)
    assert distance.dtype == jnp.float32
    np.testing.assert_allclose(distance, expected.sum(1), rtol=1e-5)


def test_leading_axes_are_kept(weights):
    prediction, target = PAIRS["noise"]
    expected = lpips(weights, prediction, target)
    single = lpips(weights, prediction[1], target[1])
    assert single.shape == ()
    np.testing.assert_allclose(single, expected[1], rtol=1e-5)
    grid = lpips(weights, prediction[:, None].astype(np.float32), target[:, None])
    assert grid.shape == (2, 1)
    np.testing.assert_allclose(grid[:, 0], expected, rtol=1e-5)


def test_is_symmetric_and_0_for_equal_images(weights):
    prediction, target = PAIRS["noise"]
    np.testing.assert_allclose(
        lpips(weights, target, prediction), lpips(weights, prediction, target), rtol=1e-5
    )
    for same in (target, np.zeros_like(target)):
        np.testing.assert_allclose(lpips(weights, same, same), 0.0, atol=1e-12)


def test_needs_the_side_at_which_a_pixel_is_left(weights):
    smallest = {"vgg": 16, "alex": 31}[weights.net]
    a, b = pictures(0, 1, smallest, smallest), pictures(1, 1, smallest, smallest)
    assert 0 < float(lpips(weights, a, b)[0]) < np.inf
    with pytest.raises(ValueError, match=f"at least {smallest}"):
        lpips(weights, a[:, 1:], b[:, 1:])
    with pytest.raises(ValueError, match="at least"):
        lpips(weights, a[..., :1], b[..., :1])
    with pytest.raises(ValueError, match="differ in shape"):
        lpips(weights, a, b[0])


def test_tables_have_the_published_numbers_of_parameters():
    """Keras lists VGG-16 without its classifier with 14,714,688 parameters.

    AlexNet's features have 2,469,696, with torchvision's 58,631,144 of the classifier 61,100,840.
    """
    counts = [
        sum(math.prod(layer.kernel) + layer.kernel[3] for layer in layers.values())
        for layers in (VGG16, ALEXNET)
    ]
    assert counts == [14_714_688, 2_469_696]
    assert list(VGG16.values())[-1].published == "features.28"
    assert {*(f"lpips_{net}" for net in NETS), VGG_HOLE, TEXTURE} == set(DEFINITIONS)


@pytest.mark.parametrize("net", NETS)
def test_missing_file_says_what_to_fetch_and_how_to_convert(tmp_path, net):
    path = tmp_path / "lpips.safetensors"
    with pytest.raises(UserError) as error:
        load_lpips(str(path), net)
    message = str(error.value)
    backbone = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}[net]
    assert f"https://download.pytorch.org/models/{backbone}" in message
    assert f"/lpips/weights/v0.1/{net}.pth" in message and "\n" not in message
    command = f"--net {net} --backbone {backbone} --heads {net}.pth --output {path}`"
    assert f"`gmsrm convert lpips {command}" in message
