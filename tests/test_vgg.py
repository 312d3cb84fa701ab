"""VGG-19 features against loops in float64, and the loading of their weights."""

import collections
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from PIL import Image, ImageFilter
from vgg_references import pictures, reference_features

from gmsrm_jax.assets import asset_path
from gmsrm_jax.foreign.converted import write_converted
from gmsrm_jax.foreign.networks import VGG16, VGG19
from gmsrm_jax.nn.vgg import (
    PERCEPTUAL_LAYERS,
    VggWeights,
    features,
    load_poolings,
    load_vgg,
    load_vgg19,
    max_pool,
    needed_convolutions,
)
from gmsrm_jax.runtime.errors import UserError

LAYERS = PERCEPTUAL_LAYERS[:3]
BUNDLED = asset_path("vgg19/vgg19_conv1_1_to_conv3_1.safetensors")


@pytest.fixture(scope="module")
def weights():
    return load_vgg19("bundled", LAYERS)


def check_against_reference(weights, normalised, images, scale):
    found = jax.jit(features, static_argnames="taps")(weights, images, taps=LAYERS)
    for i, x in enumerate(normalised):
        expected = reference_features(weights.params, x)
        for layer, f, e in zip(LAYERS, found, expected, strict=True):
            assert f.dtype == jnp.float32 and f.shape[1:] == e.shape
            assert (e > 0).mean() > 0.2, layer
            np.testing.assert_allclose(f[i], e * scale, rtol=0, atol=2e-6 * (e * scale).max())


def test_caffe_features_are_those_of_a_float64_loop(weights):
    assert weights.source == "caffe"
    picture = pictures(2, 24)[:, 1:23]  # 22 rows pool to 11, then to 5
    normalised = picture[..., ::-1] - np.array([103.939, 116.779, 123.68])
    check_against_reference(weights, normalised, jnp.asarray(picture / 127.5 - 1), 1 / 57.6)


def test_torchvision_features_are_those_of_a_float64_loop(weights):
    weights = VggWeights(weights.params, "torchvision")
    picture = pictures(1, 16)
    normalised = (picture / 255 - [0.485, 0.456, 0.406]) / np.array([0.229, 0.224, 0.225])
    check_against_reference(weights, normalised, jnp.asarray(picture / 127.5 - 1), 1.0)


def test_both_sources_are_on_one_scale(weights):
    """Weights that fold Caffe's normalisation into torchvision's give about the same features.

    The exact folding of conv1_1 divides the input by 255 σ of each channel and multiplies the
    kernel by it; every bias is 57.6 times smaller where the features are.
    """
    params = {n: {k: np.array(a) for k, a in layer.items()} for n, layer in weights.params.items()}
    deviations = np.array([0.225, 0.224, 0.229], np.float32)[:, None]  # BGR
    params["conv1_1"]["kernel"] = (params["conv1_1"]["kernel"] * 255 * deviations / 57.6)[
        :, :, ::-1
    ]
    for layer in params.values():
        layer["bias"] = layer["bias"] / np.float32(57.6)
    images = jnp.asarray(pictures(2, 32) / 127.5 - 1)
    caffe = features(weights, images, LAYERS)
    torchvision = features(VggWeights(params, "torchvision"), images, LAYERS)
    for a, b in zip(caffe, torchvision, strict=True):
        # The two means differ by less than 0.3 of 255 in every channel.
        assert jnp.abs(a - b).mean() < 0.02 * jnp.abs(a).mean()


def test_layers_come_in_the_order_asked_for(weights):
    images = jnp.asarray(pictures(1, 16) / 127.5 - 1)
    first, third = features(weights, images, ("relu1_1", "relu3_1"))
    swapped = features(weights, images, ("relu3_1", "relu1_1"))
    np.testing.assert_array_equal(swapped[0], third)
    np.testing.assert_array_equal(swapped[1], first)


def small_weights(taps, channels=4, table=VGG19, **options):
    """Weights with few channels; their number is read from the kernels."""
    rng = np.random.default_rng(0)
    params, inputs = {}, 3
    for name in needed_convolutions(taps, table):
        kernel = rng.normal(size=(3, 3, inputs, channels)).astype(np.float32)
        params[name] = {"kernel": kernel, "bias": rng.normal(size=channels).astype(np.float32)}
        inputs = channels
    return VggWeights(params, "torchvision", **options)


@pytest.mark.parametrize(
    ("layers", "convolutions"),
    [(PERCEPTUAL_LAYERS[:n], c) for n, c in enumerate((1, 3, 5, 9, 13), start=1)]
    + [(("relu2_1",), 3), (("relu5_4", "relu1_2"), 16)],
)
def test_runs_no_convolution_behind_the_last_layer(layers, convolutions):
    weights = small_weights((*PERCEPTUAL_LAYERS, "relu5_4"))
    images = jnp.zeros((1, 32, 32, 3))
    program = jax.make_jaxpr(lambda w, x: features(w, x, layers))(weights, images)
    operations = collections.Counter(str(e.primitive) for e in program.jaxpr.eqns)
    assert operations["conv_general_dilated"] == convolutions
    for layer, shape in zip(layers, program.out_avals, strict=True):
        side = 32 >> (int(layer[4]) - 1)
        assert shape.shape == (1, side, side, 4)


@pytest.mark.parametrize(("net", "convolutions"), [("vgg16", 7), ("vgg19", 8)])
def test_poolings_come_behind_the_last_convolution_of_their_block(net, convolutions):
    table = VGG16 if net == "vgg16" else VGG19
    last = f"relu3_{convolutions - 4}"
    weights = small_weights(("relu4_1",), table=table, net=net)
    images = jnp.asarray(pictures(1, 16) / 127.5 - 1)
    taps = ("pool3", last, "pool1", "relu1_2", "pool2", "relu4_1")
    found = dict(zip(taps, jax.jit(features, static_argnums=2)(weights, images, taps), strict=True))
    for pooled, whole in (("pool1", "relu1_2"), ("pool3", last)):
        expected = np.asarray(found[whole])
        expected = np.maximum(expected[:, ::2], expected[:, 1::2])
        expected = np.maximum(expected[:, :, ::2], expected[:, :, 1::2])
        np.testing.assert_array_equal(found[pooled], expected)
    behind = weights.params["conv4_1"]
    expected = jax.lax.conv_general_dilated(
        found["pool3"], behind["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = np.maximum(expected + behind["bias"][None, None, None], 0)
    np.testing.assert_allclose(found["relu4_1"], expected, rtol=1e-5, atol=1e-3)
    program = jax.make_jaxpr(lambda w, x: features(w, x, ("pool3",)))(weights, images)
    operations = collections.Counter(str(e.primitive) for e in program.jaxpr.eqns)
    assert operations["conv_general_dilated"] == convolutions


@pytest.mark.parametrize("source", ["torchvision", "caffe"])
def test_unit_input_is_the_image_in_0_to_1(weights, source):
    """The first convolution, window by window; Caffe's on the scale of its own input."""
    weights = VggWeights(weights.params, source, unit_input=True)
    picture = pictures(1, 8)
    (found,) = features(weights, jnp.asarray(picture / 127.5 - 1), ("relu1_1",))
    shown = picture[0] / 255 if source == "torchvision" else picture[0, ..., ::-1] / 255 * 57.6
    expected = reference_features(weights.params, shown)[0]
    expected = expected / (57.6 if source == "caffe" else 1)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=2e-6 * expected.max())


def lpips_file(path):
    """A converted LPIPS file of VGG-16's shapes with small random weights."""
    rng = np.random.default_rng(0)
    params = {}
    for name, layer in VGG16.items():
        shape = layer.kernel
        kernel = rng.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape).astype(np.float32)
        params[name] = {"kernel": kernel, "bias": np.zeros(shape[3], np.float32)}
    write_converted(path, "lpips_vgg", "torchvision", params, [])
    return params


def test_vgg16_is_read_from_the_file_of_lpips(tmp_path):
    path = tmp_path / "lpips_vgg.safetensors"
    params = lpips_file(path)
    weights, taps = load_poolings(str(path), field="pconv.vgg")
    assert taps == ("pool1", "pool2", "pool3")
    assert (weights.net, weights.source) == ("vgg16", "torchvision")
    assert list(weights.params) == [name for name in params if name < "conv4"]
    np.testing.assert_array_equal(weights.params["conv3_3"]["kernel"], params["conv3_3"]["kernel"])
    found = features(weights, jnp.zeros((1, 8, 8, 3)), taps)
    assert [f.shape for f in found] == [(1, 4, 4, 64), (1, 2, 2, 128), (1, 1, 1, 256)]


def test_bundled_weights_stand_in_for_vgg16():
    weights, taps = load_poolings("bundled", field="pconv.vgg")
    assert taps == ("pool1", "pool2", "relu3_1") and weights.net == "vgg19"
    assert [f.shape[-1] for f in features(weights, jnp.zeros((1, 8, 8, 3)), taps)] == [64, 128, 256]


def test_missing_vgg16_says_what_to_fetch_and_how_to_convert(tmp_path):
    path = tmp_path / "lpips_vgg.safetensors"
    with pytest.raises(UserError) as error:
        load_poolings(str(path), field="pconv.vgg")
    message = str(error.value)
    assert "no VGG-16 weights there" in message and "vgg16-397923af.pth" in message
    assert f"--output {path}` and set --config.pconv.vgg={path}" in message
    with pytest.raises(UserError, match=r"VGG-16 has no layer 'relu3_4'.* relu5_3, or pool1"):
        load_vgg(str(path), ("relu3_4",), net="vgg16", field="pconv.vgg")


def test_bundled_weights_that_end_too_early_for_vgg16_name_vgg16():
    with pytest.raises(UserError) as error:
        load_vgg("bundled", ("relu4_1",), net="vgg16", field="medfe.vgg")
    message = str(error.value)
    assert "relu4_1 also need conv3_2, conv3_3, conv3_4, conv4_1" in message
    assert "gmsrm convert lpips --net vgg --backbone vgg16-397923af.pth" in message
    assert "and set --config.medfe.vgg=weights/lpips_vgg.safetensors" in message


def test_weights_are_a_pytree_with_a_static_source():
    weights = small_weights(("relu2_1",))
    leaves, structure = jax.tree.flatten(weights)
    assert len(leaves) == 6 and all(isinstance(leaf, np.ndarray) for leaf in leaves)
    assert jax.tree.unflatten(structure, leaves).source == "torchvision"
    other = jax.tree.structure(VggWeights(weights.params, "caffe"))
    assert structure != other  # so a jitted function never confuses the two


def test_max_pool_is_linens_with_the_same_gradient():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 7, 10, 3)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=(2, 3, 5, 3)), jnp.float32)
    ours, pull = jax.vjp(max_pool, x)
    theirs, pull_theirs = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), x)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(pull(weight)[0], pull_theirs(weight)[0])


def test_gradient_is_that_of_finite_differences():
    layers = ("relu1_1", "relu2_1")
    weights = small_weights(layers)
    images = jnp.asarray(pictures(1, 16) / 127.5 - 1, jnp.float32)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=images.shape), jnp.float32)

    @jax.jit
    def loss(images):
        return sum(jnp.square(f).mean() for f in features(weights, images, layers))

    slope = float(jnp.vdot(jax.grad(loss)(images), direction))
    step = 1e-3
    numeric = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
    assert slope == pytest.approx(float(numeric), rel=1e-2)


@pytest.mark.parametrize("corruption", ["noise", "blur", "hole"])
def test_perceptual_distance_is_of_the_same_order_as_l1(weights, corruption):
    """L_perc over three layers lies between 10 and 45 times L1, so λ2 = 0.1 makes it 1 to 4.5 L1.

    Measured on these pictures at 64 and 128 px: noise 14-16, blur of one pixel 30-33, a grey hole
    21-30. L_rec counts the hole ten times, so neither term of the objective silences the other.
    Without the division by 57.6 the ratio would be in the thousands.
    """
    clean = pictures(4, 64)
    if corruption == "noise":
        noise = np.random.default_rng(0).normal(0, 6, clean.shape)
        changed = np.clip(clean + noise, 0, 255)
    elif corruption == "blur":
        blur = ImageFilter.GaussianBlur(1)
        changed = np.stack([np.asarray(Image.fromarray(p).filter(blur)) for p in clean])
    else:
        changed = clean.astype(np.float64)
        changed[:, 16:48, 16:48] = clean.mean((1, 2), keepdims=True)
    a, b = (jnp.asarray(x / 127.5 - 1, jnp.float32) for x in (clean, changed))
    distance = sum(
        jnp.abs(p - q).mean()
        for p, q in zip(features(weights, a, LAYERS), features(weights, b, LAYERS), strict=True)
    )
    assert 10 < distance / jnp.abs(a - b).mean() < 45


def test_bundled_weights_end_at_conv3_1_and_say_so(weights):
    assert list(weights.params) == ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    for name, layer in weights.params.items():
        assert layer["kernel"].shape == VGG19[name].kernel
        assert layer["kernel"].dtype == layer["bias"].dtype == np.float32
    with pytest.raises(UserError) as error:
        load_vgg19("bundled", PERCEPTUAL_LAYERS)
    message = str(error.value)
    assert "conv1_1, conv1_2, conv2_1, conv2_2, conv3_1, but" in message
    assert "conv3_2, conv3_3, conv3_4, conv4_1" in message and "conv5_2" not in message
    command = "gmsrm convert vgg19 --input vgg19-dcbb9e9d.pth --output weights/vgg19.safetensors"
    assert command in message and "\n" not in message


def test_missing_file_says_what_to_fetch_and_how_to_convert(tmp_path):
    path = tmp_path / "vgg19.safetensors"
    with pytest.raises(UserError) as error:
        load_vgg19(str(path))
    message = str(error.value)
    assert "https://download.pytorch.org/models" in message
    assert f"gmsrm convert vgg19 --input vgg19-dcbb9e9d.pth --output {path}" in message


@pytest.mark.parametrize("layers", [("conv1_1",), ("relu6_1",), ("relu1_3",), ("",), ()])
def test_unknown_layers_are_user_errors(layers):
    with pytest.raises(UserError, match="layer"):
        load_vgg19("bundled", layers)


def rewrite(path, change):
    """Rewrites a converted file after `change(arrays, metadata)`."""
    with safetensors.safe_open(BUNDLED, framework="np") as file:
        about = json.loads(file.metadata()["gmsrm_jax"])
    arrays = safetensors.numpy.load_file(BUNDLED)
    change(arrays, about)
    safetensors.numpy.save_file(arrays, path, metadata={"gmsrm_jax": json.dumps(about)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, m: a["conv1_1/bias"].__setitem__(0, 1), "SHA-256"),
        (lambda a, m: a.pop("conv3_1/bias"), "SHA-256"),
        (lambda a, m: a.update(extra=np.zeros(2)), "SHA-256"),
        (lambda a, m: m.update(normalisation="torchvision"), "SHA-256"),
        (lambda a, m: m.update(network="inception"), "SHA-256"),
        (lambda a, m: m.update(sha256="0"), "recorded is 0"),
        (lambda a, m: m.pop("sha256"), "no converted weights \\('sha256'\\)"),
    ],
)
def test_changed_weights_are_user_errors(tmp_path, change, message):
    path = tmp_path / "vgg19.safetensors"
    rewrite(path, lambda arrays, metadata: None)
    load_vgg19(str(path), LAYERS)
    rewrite(path, change)
    with pytest.raises(UserError, match=message) as error:
        load_vgg19(str(path), LAYERS)
    assert "gmsrm convert vgg19" in str(error.value) and str(path) in str(error.value)


def test_corrupt_files_are_user_errors(tmp_path):
    path = tmp_path / "vgg19.safetensors"
    content = BUNDLED.read_bytes()
    rng = np.random.default_rng(0)

    def refused(broken):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"damaged.*gmsrm convert vgg19"):
            load_vgg19(str(path), LAYERS)

    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        refused(content[:length])
    first = 8 + int.from_bytes(content[:8], "little")
    for position in (3, 12, first, *rng.integers(first, len(content), 8)):
        refused(content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :])
    for other in (b"no weights", safetensors.numpy.save({"a": np.zeros(3)})):
        refused(other)


def test_npz_files_are_to_be_converted_again(tmp_path):
    """Converted weights were .npz once, and configs of then name them."""
    path = tmp_path / "vgg19.npz"
    again = f"gmsrm convert vgg19 .* --output {path.with_suffix('.safetensors')}`?"
    with pytest.raises(UserError, match=f"no VGG-19 weights there; .*{again}"):
        load_vgg19(str(path), LAYERS)
    np.savez(path, metadata=np.array("{}"))
    with pytest.raises(UserError, match=f"converted weights are .safetensors; .*{again}"):
        load_vgg19(str(path), LAYERS)
