"""VGG-19 features for the perceptual loss (the paper's Eq. 11).

The weights are an argument, never module state: they are neither trained nor saved with a
checkpoint. The network is that of Simonyan and Zisserman (arXiv 1409.1556), table 1, column E.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from gmsrm_jax.assets import asset_path, resolve_path
from gmsrm_jax.foreign.vgg19 import (
    CAFFE,
    CONVERT_COMMAND,
    TORCHVISION,
    needed_convolutions,
    read_vgg19,
)
from gmsrm_jax.nn.layers import add_bias, conv
from gmsrm_jax.runtime.errors import UserError

PERCEPTUAL_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

_BUNDLED_FILE = "vgg19/vgg19_conv1_1_to_conv3_1.npz"
_IMAGENET_MEAN = np.asarray((0.485, 0.456, 0.406), np.float32)  # RGB in [0, 1]
_IMAGENET_STD = np.asarray((0.229, 0.224, 0.225), np.float32)
_CAFFE_MEAN = np.asarray((103.939, 116.779, 123.68), np.float32)  # BGR in [0, 255]
# Caffe's weights see deviations of 255 times ImageNet's mean standard deviation instead of 1;
# dividing by it gives the features, and so the perceptual weight, torchvision's scale.
_CAFFE_SCALE = 57.6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Vgg19Weights:
    """VGG-19's convolutions and the normalisation of their input; a pytree, `source` static.

    Attributes:
        params: {"conv1_1": {"kernel": float32 [3, 3, I, O], "bias": float32 [O]}, ...}.
        source: "torchvision" or "caffe".
    """

    params: Mapping[str, Mapping[str, jax.typing.ArrayLike]]
    source: str = dataclasses.field(metadata={"static": True})


def load_vgg19(path: str, layers: Sequence[str] = PERCEPTUAL_LAYERS) -> Vgg19Weights:
    """Loads converted weights, as far as the last of `layers` needs them.

    Args:
        path: an .npz that `gmsrm convert vgg19` wrote, or "bundled" for the file in the package,
            the original weights from conv1_1 to conv3_1.
        layers: activations such as "relu3_1".

    Raises:
        UserError: the file is missing, damaged, or ends before a needed layer; the message says how
            to make a file that does not.
    """
    needed = needed_convolutions(layers)
    file = asset_path(_BUNDLED_FILE) if path == "bundled" else resolve_path(path)
    output = "weights/vgg19.npz" if path == "bundled" else path
    cure = (
        "fetch torchvision's vgg19-dcbb9e9d.pth from https://download.pytorch.org/models, run"
        f" `{CONVERT_COMMAND.format(output=output)}` and set --config.inpainting.vgg={output}"
    )
    if not file.is_file():
        raise UserError(f"{file}: no VGG-19 weights there; {cure}")
    params, source = read_vgg19(file)
    missing = [name for name in needed if name not in params]
    if missing:
        raise UserError(
            f"{file} ({path!r}) has {', '.join(sorted(params))}, but {', '.join(layers)} also need"
            f" {', '.join(missing)}; shorten --config.inpainting.perceptual_layers, or"
            f" {cure}"
        )
    return Vgg19Weights({name: params[name] for name in needed}, source)


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
        return (images * 0.5 + 0.5 - _row(_IMAGENET_MEAN)) / _row(_IMAGENET_STD)
    if source == CAFFE:
        return (images[..., ::-1] + 1.0) * 127.5 - _row(_CAFFE_MEAN)
    raise ValueError(f"source {source!r} must be {TORCHVISION!r} or {CAFFE!r}")


def features(
    weights: Vgg19Weights,
    images: jax.Array,
    layers: Sequence[str] = PERCEPTUAL_LAYERS,
    dtype: DTypeLike = jnp.float32,
) -> tuple[jax.Array, ...]:
    """Activations after the ReLU, of every layer named.

    Convolutions are 3×3 with zero padding of the normalised image, poolings 2×2; nothing runs
    behind the last layer named. Caffe's features are divided by 57.6, so that both sources are on
    one scale.

    Args:
        weights: from `load_vgg19`, for at least these layers.
        images: [N, H, W, 3], RGB in [-1, 1].
        layers: such as "relu1_1", in any order.
        dtype: format of the feature maps on the way, see `layers`.

    Returns:
        For each layer float32 [N, H', W', C]; H' = H, H // 2, H // 4, ... by block.
    """
    x = normalise(images, weights.source).astype(dtype)
    scale = 1.0 / _CAFFE_SCALE if weights.source == CAFFE else 1.0
    activations: dict[str, jax.Array] = {}
    for name in needed_convolutions(layers):
        if name.endswith("_1") and activations:
            x = max_pool(x)
        layer = weights.params[name]
        kernel, bias = (jnp.asarray(layer[part], jnp.float32) for part in ("kernel", "bias"))
        x = jax.nn.relu(add_bias(conv(x, kernel), bias))
        activations["relu" + name.removeprefix("conv")] = x
    return tuple(activations[layer].astype(jnp.float32) * scale for layer in layers)


def _row(values: jax.typing.ArrayLike) -> jax.Array:
    """[C] as float32 [1, 1, 1, C]."""
    return jnp.asarray(values, jnp.float32)[None, None, None, :]
