"""LPIPS against its definition in PyTorch, on random weights (see perceptual_weights.py)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perceptual_weights import backbone_state, heads_state, picture_pairs, pictures
from torch_writers import write_arrays, write_zip

from gmsrm_jax.foreign.lpips import BACKBONES, HEADS, convert_lpips
from gmsrm_jax.metrics.lpips import Lpips, load_lpips
from gmsrm_jax.metrics.perceptual import DEFINITIONS, VGG_HOLE, lpips
from gmsrm_jax.runtime.errors import UserError

REFERENCES = pathlib.Path(__file__).parent / "data" / "perceptual_references.npz"
NETS = ("vgg", "alex")
PAIRS = picture_pairs()


def converted(folder, net):
    """A converted file of the random weights."""
    write_arrays(write_zip, folder / "backbone.pth", backbone_state(net))
    write_arrays(write_zip, folder / "heads.pth", heads_state(net))
    output = folder / f"{net}.npz"
    convert_lpips(net, folder / "backbone.pth", folder / "heads.pth", output, any_file=True)
    return str(output)


@pytest.fixture(scope="module", params=NETS)
def weights(request, tmp_path_factory):
    return load_lpips(converted(tmp_path_factory.mktemp("lpips"), request.param), request.param)


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
    counts = {
        net: sum(
            layer.size**2 * layer.inputs * layer.outputs + layer.outputs
            for layer in BACKBONES[net].values()
        )
        for net in NETS
    }
    assert counts == {"vgg": 14_714_688, "alex": 2_469_696}
    assert [layer.torchvision_index for layer in BACKBONES["vgg"].values()][-3:] == [24, 26, 28]
    assert {*(f"lpips_{net}" for net in NETS), VGG_HOLE} == set(DEFINITIONS)
    assert set(HEADS) == set(NETS)


@pytest.mark.parametrize("net", NETS)
def test_missing_file_says_what_to_fetch_and_how_to_convert(tmp_path, net):
    path = tmp_path / "lpips.npz"
    with pytest.raises(UserError) as error:
        load_lpips(str(path), net)
    message = str(error.value)
    backbone = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}[net]
    assert f"https://download.pytorch.org/models/{backbone}" in message
    assert f"/lpips/weights/v0.1/{net}.pth" in message and "\n" not in message
    command = f"--net {net} --backbone {backbone} --heads {net}.pth --output {path}`"
    assert f"`gmsrm convert lpips {command}" in message


def test_weights_of_the_other_network_are_refused(tmp_path):
    path = converted(tmp_path, "alex")
    with pytest.raises(UserError, match="LPIPS weights of alex, not vgg"):
        load_lpips(path, "vgg")
