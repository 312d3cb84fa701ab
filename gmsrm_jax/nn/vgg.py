"""VGG features for perceptual and style losses.

The weights are an argument, never module state: they are neither trained nor saved with a
checkpoint. The networks are those of Simonyan and Zisserman (arXiv 1409.1556), table 1, columns D
(VGG-16) and E (VGG-19).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from gmsrm_jax.assets import asset_path, resolve_path
from gmsrm_jax.foreign.converted import read_converted
from gmsrm_jax.foreign.networks import (
    CAFFE,
    NETWORKS,
    TORCHVISION,
    VGG16,
    VGG19,
    Layers,
    converted_name,
)
from gmsrm_jax.nn.layers import add_bias, conv
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import setting
from gmsrm_jax.runtime.pixels import to_unit

PERCEPTUAL_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
POOLINGS = ("pool1", "pool2", "pool3")
BUNDLED = "bundled"

IMAGENET_MEAN = np.asarray((0.485, 0.456, 0.406), np.float32)  # RGB in [0, 1]
IMAGENET_STD = np.asarray((0.229, 0.224, 0.225), np.float32)

Net = Literal["vgg16", "vgg19"]
_TABLES = {"vgg16": VGG16, "vgg19": VGG19}
_CONVERTED = {"vgg16": "lpips_vgg", "vgg19": "vgg19"}
_BUNDLED_FILE = "vgg19/vgg19_conv1_1_to_conv3_1.safetensors"
# Where the bundled file ends before pool3, its last activation stands in.
_BUNDLED_POOLINGS = ("pool1", "pool2", "relu3_1")
_CAFFE_MEAN = np.asarray((103.939, 116.779, 123.68), np.float32)  # BGR in [0, 255]
# The fields that name a file for `load_vgg`.
VGG16_FILE: Any = setting(
    "weights/lpips_vgg.safetensors",
    "VGG-16, of `gmsrm convert lpips --net vgg`; or bundled, VGG-19 to conv3_1 in its place",
    local=BUNDLED,
)
VGG19_FILE: Any = setting(
    "weights/vgg19.safetensors", "written by `gmsrm convert vgg19`; or bundled", local=BUNDLED
)
# Caffe's weights see deviations of 255 times ImageNet's mean standard deviation instead of 1;
# dividing by it gives the features, and so the perceptual weight, torchvision's scale.
_CAFFE_SCALE = 57.6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VggWeights:
    """A VGG's convolutions and what it is shown; a pytree, all but `params` static.

    Attributes:
        params: {"conv1_1": {"kernel": float32 [3, 3, I, O], "bias": float32 [O]}, ...}.
        source: "torchvision" or "caffe": the normalisation that the weights were trained with.
        net: "vgg16" or "vgg19".
        unit_input: show it images in [0, 1] without that normalisation, as some published losses
            do; Caffe's weights see them times 57.6, which is the same to them.
    """

    params: Mapping[str, Mapping[str, jax.typing.ArrayLike]]
    source: str = dataclasses.field(metadata={"static": True})
    net: Net = dataclasses.field(default="vgg19", metadata={"static": True})
    unit_input: bool = dataclasses.field(default=False, metadata={"static": True})


def needed_layers(taps: Sequence[str], table: Layers = VGG19) -> tuple[str, ...]:
    """The convolutions "conv1_1" and poolings "pool1", in order, that must run for some taps.

    Args:
        taps: activations behind a ReLU such as "relu3_1", or behind a pooling, "pool2".
        table: the network's convolutions.

    Raises:
        UserError: no tap, or one that the network does not have.
    """
    layers: list[str] = []
    for name in table:
        if name.endswith("_1") and layers:
            layers.append(f"pool{int(name[4]) - 1}")
        layers.append(name)
    layers.append(f"pool{layers[-1][4]}")
    tapped = ["conv" + tap[4:] if tap.startswith("relu") else tap for tap in taps]
    for tap, layer in zip(taps, tapped, strict=True):
        if tap.startswith("conv") or layer not in layers:
            raise UserError(
                f"VGG-{len(table) + 3} has no layer {tap!r}; name relu1_1, relu1_2, ..."
                f" relu{layers[-2][4:]}, or pool1, ... {layers[-1]}"
            )
    if not taps:
        raise UserError("no VGG layers are named; name for instance relu1_1, relu2_1, relu3_1")
    return tuple(layers[: 1 + max(layers.index(layer) for layer in tapped)])


def needed_convolutions(taps: Sequence[str], table: Layers = VGG19) -> tuple[str, ...]:
    """Those of `needed_layers` that have weights."""
    return tuple(name for name in needed_layers(taps, table) if name.startswith("conv"))


def load_vgg(
    path: str, taps: Sequence[str], *, net: Net = "vgg19", unit_input: bool = False, field: str
) -> VggWeights:
    """Loads converted weights, as far as the last of `taps` needs them.

    Args:
        path: a file that `gmsrm convert vgg19`, or for VGG-16 `gmsrm convert lpips --net vgg`,
            wrote; or "bundled" for the file in the package, the original weights of VGG-19 from
            conv1_1 to conv3_1.
        taps: activations such as "relu3_1" and "pool2".
        net: whose weights they must be; the bundled ones, VGG-19's, stand in for any.
        unit_input: see `VggWeights`.
        field: the config's field that names `path`, such as "inpainting.vgg", for messages.

    Raises:
        UserError: the file is missing, damaged, or ends before a needed layer; the message says how
            to make a file that does not.
    """
    bundled = path == BUNDLED
    given: Net = "vgg19" if bundled else net
    needed = needed_convolutions(taps, _TABLES[given])
    file = asset_path(_BUNDLED_FILE) if bundled else resolve_path(path)
    output = converted_name(f"weights/{_CONVERTED[net]}" if bundled else path)
    cure = f"{NETWORKS[_CONVERTED[net]].recipe(output)} and set --config.{field}={output}"
    if not file.is_file():
        raise UserError(f"{file}: no VGG-{net[3:]} weights there; {cure}")
    params, source = read_converted(file, _CONVERTED[given])
    missing = [name for name in needed if name not in params]
    if missing:
        raise UserError(
            f"{file} ({path!r}) has {', '.join(sorted(params))}, but {', '.join(taps)} also need"
            f" {', '.join(missing)}; name fewer layers, or {cure}"
        )
    return VggWeights({name: params[name] for name in needed}, source, given, unit_input)


def load_vgg19(path: str, layers: Sequence[str] = PERCEPTUAL_LAYERS) -> VggWeights:
    """`load_vgg` for the perceptual loss of Eq. 11, whose field is inpainting.vgg."""
    return load_vgg(path, layers, field="inpainting.vgg")


def load_poolings(
    path: str, *, unit_input: bool = False, field: str
) -> tuple[VggWeights, tuple[str, ...]]:
    """VGG-16 and its taps pool1, pool2, pool3, as perceptual and style losses of 2018 have them.

    Args:
        path: as for `load_vgg`; "bundled" gives VGG-19 with pool1, pool2, relu3_1 in their place.
        unit_input: see `VggWeights`.
        field: see `load_vgg`.

    Raises:
        UserError: see `load_vgg`.
    """
    taps = _BUNDLED_POOLINGS if path == BUNDLED else POOLINGS
    return load_vgg(path, taps, net="vgg16", unit_input=unit_input, field=field), taps


def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 2×2 windows, [N, H, W, C] to [N, H // 2, W // 2, C]; an odd last row is dropped.

    As a reshape it has `flax.linen.max_pool`'s values, a backward pass three times as fast on a
    CPU, and no select-and-scatter, which deterministic GPU runs refuse. Where the maximum occurs
    twice its gradient is split; after a ReLU those are zeros, whose gradient ends there.
    """
    n, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def normalise(images: jax.Array, source: str) -> jax.Array:
    """Images [N, H, W, 3] in [-1, 1], RGB, to what the weights of `source` were trained on."""
    images = images.astype(jnp.float32)
    if source == TORCHVISION:
        return (to_unit(images) - _row(IMAGENET_MEAN)) / _row(IMAGENET_STD)
    if source == CAFFE:
        return (images[..., ::-1] + 1.0) * 127.5 - _row(_CAFFE_MEAN)
    raise ValueError(f"source {source!r} must be {TORCHVISION!r} or {CAFFE!r}")


def denormalise(images: jax.Array) -> jax.Array:
    """What `normalise` makes for torchvision's weights back to [-1, 1]; float32."""
    images = images.astype(jnp.float32)
    return images * (2.0 * _row(IMAGENET_STD)) + (2.0 * _row(IMAGENET_MEAN) - 1.0)


def features(
    weights: VggWeights,
    images: jax.Array,
    taps: Sequence[str] = PERCEPTUAL_LAYERS,
    dtype: DTypeLike = jnp.float32,
) -> tuple[jax.Array, ...]:
    """Activations after a ReLU or a pooling, of every tap named.

    Convolutions are 3×3 with zero padding of the normalised image, poolings 2×2; nothing runs
    behind the last tap named. Caffe's features are divided by 57.6, so that both sources are on
    one scale.

    Args:
        weights: from `load_vgg`, for at least these taps.
        images: [N, H, W, 3], RGB in [-1, 1].
        taps: such as "relu1_1" and "pool1", in any order.
        dtype: format of the feature maps on the way, see `layers`.

    Returns:
        For each tap float32 [N, H', W', C]; H' = H, H // 2, H // 4, ... for relu1_1, pool1, pool2.
    """
    scale = 1.0 / _CAFFE_SCALE if weights.source == CAFFE else 1.0
    x = _shown(weights, images).astype(dtype)
    activations: dict[str, jax.Array] = {}
    for name in needed_layers(taps, _TABLES[weights.net]):
        if name.startswith("pool"):
            activations[name] = x = max_pool(x)
            continue
        layer = weights.params[name]
        kernel, bias = (jnp.asarray(layer[part], jnp.float32) for part in ("kernel", "bias"))
        x = jax.nn.relu(add_bias(conv(x, kernel), bias))
        activations["relu" + name.removeprefix("conv")] = x
    return tuple(activations[tap].astype(jnp.float32) * scale for tap in taps)


def _shown(weights: VggWeights, images: jax.Array) -> jax.Array:
    """What the network is shown of images in [-1, 1], float32."""
    if not weights.unit_input:
        return normalise(images, weights.source)
    unit = to_unit(images.astype(jnp.float32))
    return unit[..., ::-1] * _CAFFE_SCALE if weights.source == CAFFE else unit


def _row(values: jax.typing.ArrayLike) -> jax.Array:
    """[C] as float32 [1, 1, 1, C]."""
    return jnp.asarray(values, jnp.float32)[None, None, None, :]
