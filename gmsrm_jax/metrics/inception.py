"""FID's Inception-v3: the 2,048 features on which FID, P-IDS and U-IDS are defined.

Szegedy et al., "Rethinking the Inception Architecture" (arXiv 1512.00567), as the network of
2015-12-05 that FID uses, in pytorch-fid's definition. It differs from torchvision's network:
average poolings do not count the padding, and the last block pools by the maximum. The weights are
an argument, never module state.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gmsrm_jax.assets import resolve_path
from gmsrm_jax.foreign.converted import read_converted
from gmsrm_jax.foreign.networks import INCEPTION, Layer

FEATURES = 2048
SIDE = 299  # of the images that the network was trained on [px]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InceptionWeights:
    """The convolutions, batch normalisation folded in; a pytree.

    Attributes:
        params: {"Mixed_5b.branch1x1": {"kernel": float32 [kh, kw, I, O], "bias": float32 [O]}, ...}
    """

    params: Mapping[str, Mapping[str, ArrayLike]]


def load_inception(path: str) -> InceptionWeights:
    """Loads a file that `gmsrm convert inception` wrote.

    Raises:
        UserError: the file is missing or damaged; the message says what to fetch and which command
            makes the file.
    """
    return InceptionWeights(read_converted(resolve_path(path), "inception")[0])


def inception_input(images: ArrayLike) -> jax.Array:
    """Images [N, H, W, 3] in 0..255 to float32 [N, 299, 299, 3] in [-1, 1].

    The size is changed bilinearly with half-pixel centres and without smoothing before shrinking,
    as pytorch-fid does. TensorFlow 1, with which FID was first computed, and torch-fidelity align
    the first pixels' centres and scale v to (v - 128) / 128, so their figures differ a little.
    """
    images = jnp.asarray(images, jnp.float32) / 255.0
    n, _, _, channels = images.shape
    resized = jax.image.resize(
        images,
        (n, SIDE, SIDE, channels),
        "bilinear",
        antialias=False,
        precision=jax.lax.Precision.HIGHEST,
    )
    return 2.0 * resized - 1.0


@jax.jit
def inception_features(weights: InceptionWeights, images: ArrayLike) -> jax.Array:
    """The features on which FID, P-IDS and U-IDS are defined.

    Args:
        weights: from `load_inception`.
        images: [N, H, W, 3], RGB in 0..255, of any size.

    Returns:
        float32 [N, 2048], at least 0.

    Raises:
        ValueError: the images are not [N, H, W, 3].
    """
    shape = jnp.shape(images)
    if len(shape) != 4 or shape[-1] != 3:
        raise ValueError(f"images must be [N, H, W, 3], got {shape}")
    features = Inception().apply({"params": weights.params}, inception_input(images))
    return jnp.asarray(features)


# How many convolutions are in each branch of a block; see `_block`.
_A = {"branch1x1": 1, "branch5x5": 2, "branch3x3dbl": 3}
_C = {"branch1x1": 1, "branch7x7": 3, "branch7x7dbl": 5}
_BLOCKS = {
    "Mixed_5b": _A,
    "Mixed_5c": _A,
    "Mixed_5d": _A,
    "Mixed_6a": {"branch3x3": 1, "branch3x3dbl": 3},
    "Mixed_6b": _C,
    "Mixed_6c": _C,
    "Mixed_6d": _C,
    "Mixed_6e": _C,
    "Mixed_7a": {"branch3x3": 2, "branch7x7x3": 4},
}
_STRIDED = ("Mixed_6a", "Mixed_7a")


class Inception(nn.Module):
    """The network up to its last pooling."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, 299, 299, 3] in [-1, 1] to [N, 2048]."""
        x = _convolve(x, "Conv2d_1a_3x3", stride=2)
        x = _convolve(x, "Conv2d_2a_3x3", padding="VALID")
        x = _max_pool(_convolve(x, "Conv2d_2b_3x3"))
        x = _convolve(x, "Conv2d_3b_1x1")
        x = _max_pool(_convolve(x, "Conv2d_4a_3x3", padding="VALID"))
        for block in _BLOCKS:
            x = _block(x, block)
        x = _last_block(x, "Mixed_7b", _average_pool(x))
        x = _last_block(x, "Mixed_7c", nn.max_pool(x, (3, 3), (1, 1), "SAME"))
        return x.mean((1, 2))


def convolve(
    x: jax.Array, name: str, layer: Layer, stride: int = 1, padding: str | int = "SAME"
) -> jax.Array:
    """A published convolution with its ReLU; a submodule of the module that calls."""
    height, width, _, outputs = layer.kernel
    highest = jax.lax.Precision.HIGHEST  # the same value on every accelerator
    made = nn.Conv(outputs, (height, width), stride, padding, precision=highest, name=name)
    return nn.relu(made(x))


def _convolve(x: jax.Array, name: str, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """One of Inception's, unpadded if strided."""
    return convolve(x, name, INCEPTION[name], stride, padding if stride == 1 else "VALID")


def _chain(x: jax.Array, branch: str, count: int, stride: int = 1) -> jax.Array:
    """The convolutions of a branch, numbered if there are several; the stride is the last one's."""
    for i in range(1, count + 1):
        name = f"{branch}_{i}" if count > 1 else branch
        x = _convolve(x, name, stride if i == count else 1)
    return x


def _max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _average_pool(x: jax.Array) -> jax.Array:
    """3×3 means of the pixels inside the image."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _block(x: jax.Array, block: str) -> jax.Array:
    """Branches beside each other, and a pooling: an average before a convolution, or strided."""
    stride = 2 if block in _STRIDED else 1
    branches = [_chain(x, f"{block}.{b}", count, stride) for b, count in _BLOCKS[block].items()]
    if stride == 2:
        branches.append(_max_pool(x))
    else:
        branches.append(_convolve(_average_pool(x), f"{block}.branch_pool"))
    return jnp.concatenate(branches, axis=-1)


def _last_block(x: jax.Array, block: str, pooled: jax.Array) -> jax.Array:
    """Two of its branches end in two convolutions beside each other."""
    short = _convolve(x, f"{block}.branch3x3_1")
    long = _chain(x, f"{block}.branch3x3dbl", 2)
    branches = [
        _convolve(x, f"{block}.branch1x1"),
        *(_convolve(short, f"{block}.branch3x3_2{end}") for end in "ab"),
        *(_convolve(long, f"{block}.branch3x3dbl_3{end}") for end in "ab"),
        _convolve(pooled, f"{block}.branch_pool"),
    ]
    return jnp.concatenate(branches, axis=-1)
