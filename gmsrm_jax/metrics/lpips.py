"""LPIPS, version 0.1: the learned perceptual distance of two images.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv
1801.03924), in the definition of the authors' package `lpips`. The weights are an argument, never
module state.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gmsrm_jax.assets import resolve_path
from gmsrm_jax.foreign.converted import read_converted
from gmsrm_jax.foreign.networks import ALEXNET, VGG16
from gmsrm_jax.metrics.inception import convolve
from gmsrm_jax.nn.vgg import max_pool

VGG, ALEX = "vgg", "alex"
# The shortest side whose last activation still has a pixel.
SMALLEST_SIDE = {VGG: 16, ALEX: 31}

# For images in [-1, 1]; ImageNet's mean and deviation, rounded as in the definition.
_SHIFT = np.asarray((-0.030, -0.088, -0.188), np.float32)
_SCALE = np.asarray((0.458, 0.448, 0.450), np.float32)
_EPSILON = 1e-10


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LpipsWeights:
    """A backbone's convolutions and the linear heads; a pytree, `net` static.

    Attributes:
        params: {"conv1_1": {"kernel": float32 [3, 3, I, O], "bias": float32 [O]}, ...,
            "lin0": {"kernel": float32 [1, 1, C, 1]}, ...}.
        net: "vgg" or "alex".
    """

    params: Mapping[str, Mapping[str, jax.typing.ArrayLike]]
    net: str = dataclasses.field(metadata={"static": True})


def load_lpips(path: str, net: str) -> LpipsWeights:
    """Loads converted weights.

    Args:
        path: a file that `gmsrm convert lpips` wrote.
        net: "vgg" or "alex".

    Raises:
        UserError: the file is missing, damaged or of the other network; the message says what to
            fetch and which command makes the file.
    """
    return LpipsWeights(read_converted(resolve_path(path), f"lpips_{net}")[0], net)


class Lpips(nn.Module):
    """The distance's share of each of the five compared activations.

    With f the activations of the two images at one place, each divided by its length (plus 1e-10),
    a share is the mean over all places of sum over channels of head · (f₁ - f₂)².

    Attributes:
        net: "vgg" or "alex".
    """

    net: str

    @nn.compact
    def __call__(self, prediction: jax.Array, target: jax.Array) -> jax.Array:
        """Maps two batches [N, H, W, 3], RGB in [-1, 1], to shares [N, 5]; their sum is LPIPS."""
        images = jnp.concatenate([prediction, target])
        x = (images - _SHIFT[None, None, None]) / _SCALE[None, None, None]
        shares = []
        for i, activation in enumerate(_vgg16(x) if self.net == VGG else _alexnet(x)):
            length = jnp.sqrt(jnp.sum(jnp.square(activation), axis=-1, keepdims=True))
            first, second = jnp.split(activation / (length + _EPSILON), 2)
            head = nn.Conv(
                1, (1, 1), use_bias=False, precision=jax.lax.Precision.HIGHEST, name=f"lin{i}"
            )
            shares.append(head(jnp.square(first - second)).mean((1, 2, 3)))
        return jnp.stack(shares, axis=-1)


def _vgg16(x: jax.Array) -> list[jax.Array]:
    """relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""
    activations: list[jax.Array] = []
    for name in VGG16:
        if name.endswith("_1") and name != "conv1_1":
            activations.append(x)
            x = max_pool(x)
        x = convolve(x, name, VGG16[name])
    return [*activations, x]


def _alexnet(x: jax.Array) -> list[jax.Array]:
    """The five activations behind a ReLU."""
    window, stride = (3, 3), (2, 2)
    layers = iter(ALEXNET.items())
    first = convolve(x, *next(layers), stride=4, padding=2)
    second = convolve(nn.max_pool(first, window, stride), *next(layers))
    third = convolve(nn.max_pool(second, window, stride), *next(layers))
    fourth = convolve(third, *next(layers))
    return [first, second, third, fourth, convolve(fourth, *next(layers))]
