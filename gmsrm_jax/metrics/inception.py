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
from gmsrm_jax.foreign.networks import INCEPTION

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
        for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = _block_a(x, block)
        x = _block_b(x, "Mixed_6a")
        for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = _block_c(x, block)
        x = _block_d(x, "Mixed_7a")
        x = _block_e(x, "Mixed_7b", _average_pool(x))
        largest = nn.max_pool(x, (3, 3), (1, 1), "SAME")
        x = _block_e(x, "Mixed_7c", largest)
        return x.mean((1, 2))


def _convolve(x: jax.Array, name: str, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """A convolution with its ReLU, unpadded if strided; a submodule of the module that calls."""
    height, width, _, outputs = INCEPTION[name].kernel
    convolution = nn.Conv(
        outputs,
        (height, width),
        stride,
        padding if stride == 1 else "VALID",
        precision=jax.lax.Precision.HIGHEST,  # the same value on every accelerator
        name=name,
    )
    return nn.relu(convolution(x))


def _chain(x: jax.Array, *names: str, stride: int = 1) -> jax.Array:
    """Convolutions one behind the other; the stride is the last one's."""
    for name in names[:-1]:
        x = _convolve(x, name)
    return _convolve(x, names[-1], stride)


def _max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _average_pool(x: jax.Array) -> jax.Array:
    """3×3 means of the pixels inside the image."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _steps(block: str, branch: str, count: int) -> list[str]:
    return [f"{block}.{branch}_{i}" for i in range(1, count + 1)]


def _block_a(x: jax.Array, block: str) -> jax.Array:
    return jnp.concatenate(
        [
            _convolve(x, f"{block}.branch1x1"),
            _chain(x, *_steps(block, "branch5x5", 2)),
            _chain(x, *_steps(block, "branch3x3dbl", 3)),
            _convolve(_average_pool(x), f"{block}.branch_pool"),
        ],
        axis=-1,
    )


def _block_b(x: jax.Array, block: str) -> jax.Array:
    return jnp.concatenate(
        [
            _convolve(x, f"{block}.branch3x3", stride=2),
            _chain(x, *_steps(block, "branch3x3dbl", 3), stride=2),
            _max_pool(x),
        ],
        axis=-1,
    )


def _block_c(x: jax.Array, block: str) -> jax.Array:
    return jnp.concatenate(
        [
            _convolve(x, f"{block}.branch1x1"),
            _chain(x, *_steps(block, "branch7x7", 3)),
            _chain(x, *_steps(block, "branch7x7dbl", 5)),
            _convolve(_average_pool(x), f"{block}.branch_pool"),
        ],
        axis=-1,
    )


def _block_d(x: jax.Array, block: str) -> jax.Array:
    return jnp.concatenate(
        [
            _chain(x, *_steps(block, "branch3x3", 2), stride=2),
            _chain(x, *_steps(block, "branch7x7x3", 4), stride=2),
            _max_pool(x),
        ],
        axis=-1,
    )


def _block_e(x: jax.Array, block: str, pooled: jax.Array) -> jax.Array:
    """Two of its branches end in two convolutions beside each other."""
    short = _convolve(x, f"{block}.branch3x3_1")
    long = _chain(x, *_steps(block, "branch3x3dbl", 2))
    return jnp.concatenate(
        [
            _convolve(x, f"{block}.branch1x1"),
            _convolve(short, f"{block}.branch3x3_2a"),
            _convolve(short, f"{block}.branch3x3_2b"),
            _convolve(long, f"{block}.branch3x3dbl_3a"),
            _convolve(long, f"{block}.branch3x3dbl_3b"),
            _convolve(pooled, f"{block}.branch_pool"),
        ],
        axis=-1,
    )
