"""LISK's generator: a picture, and its gradients at three scales, which are embedded back."""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Noise, Variables, apply
from gmsrm_jax.methods.lisk import structure
from gmsrm_jax.nn.attention import attend
from gmsrm_jax.nn.layers import PlainConv
from gmsrm_jax.nn.norms import AffineInstanceNorm
from gmsrm_jax.nn.residual import ResidualBlock
from gmsrm_jax.nn.transposed import TransposedConv
from gmsrm_jax.nn.vgg import max_pool

EPSILON = 1e-6  # of every norm
GLOROT = nn.initializers.glorot_uniform()
SMALL = nn.initializers.normal(0.02)
HeadNorm = Literal["instance", "none"]


class Predicted(NamedTuple):
    """What the generator gives.

    Attributes:
        pictures: by scale, float32 [N, s, s, 3] in [-1, 1]; of "whole" always.
        gradients: by scale, float32 [N, s, s, 6], in the order of `structure.sobel`.
    """

    pictures: dict[str, jax.Array]
    gradients: dict[str, jax.Array]


class _Block(nn.Module):
    """Convolution, mirrored outside, affine instance norm, ReLU."""

    features: int
    kernel_size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pad = (self.kernel_size - 1) // 2
        conv = PlainConv(
            self.features, self.kernel_size, self.stride, pad, GLOROT, reflect=True, name="conv"
        )
        return nn.relu(AffineInstanceNorm(EPSILON, name="norm")(conv(x)))


class _Doubling(nn.Module):
    """Transposed convolution to twice the size, affine instance norm, ReLU."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = TransposedConv(self.features, GLOROT, name="conv")(x)
        return nn.relu(AffineInstanceNorm(EPSILON, name="norm")(x))


class AttentionLayer(nn.Module):
    """x + γ · o, where o attends to pooled places at half the size; γ begins with 0.

    Queries, keys and values are 1×1 convolutions, to C / 16 channels, of x at half the size; keys
    and values are pooled by 2×2 maxima, each for itself.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to the same shape, H and W multiples of 4."""
        channels = x.shape[-1]
        inner = max(channels // 16, 1)
        y = _Block(channels, 4, 2, name="down")(x)
        keys, queries, values = (
            PlainConv(inner, 1, 1, 0, SMALL, name=name)(y) for name in ("keys", "queries", "values")
        )
        y = attend(queries, max_pool(keys), max_pool(values))
        y = _Doubling(channels, name="up")(y)
        gamma = self.param("gamma", nn.initializers.zeros, ())
        return x + (gamma * y.astype(jnp.float32)).astype(x.dtype)


class _Head(nn.Module):
    """1×1 convolution to float32, and the norm that the released networks have behind it."""

    features: int
    norm: HeadNorm

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = PlainConv(self.features, 1, 1, 0, GLOROT, result=jnp.float32, name="conv")(x)
        return x if self.norm == "none" else AffineInstanceNorm(EPSILON, name="norm")(x)


class Generator(nn.Module):
    """To a quarter of the size, residual blocks, and back, with attention and heads at each scale.

    Attributes:
        width: channels at full size; twice as many at half, four times at a quarter of the size.
        blocks: residual blocks, whose first convolution is dilated by 2.
        head_norm: "instance": norms behind the heads, in front of tanh, or "none".
        small_pictures: heads for pictures at a quarter and at half of the size too.
        dtype: format of feature maps, see `layers`.
    """

    width: int
    blocks: int
    head_norm: HeadNorm = "instance"
    small_pictures: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, seen: jax.Array) -> Predicted:
        """Predicts from what `structure.seen` gives, [N, S, S, 11], S a multiple of 16 from 32."""
        w = self.width
        x = _Block(w, 7, name="in")(seen.astype(self.dtype))  # [N, S, S, w]
        x = _Block(2 * w, 4, 2, name="down_half")(x)  # [N, S/2, S/2, 2w]
        x = _Block(4 * w, 4, 2, name="down_quarter")(x)  # [N, S/4, S/4, 4w]
        for index in range(self.blocks):
            block = ResidualBlock(2, GLOROT, affine=True, epsilon=EPSILON, name=f"residual_{index}")
            x = block(x)
        pictures, gradients, embedded = {}, {}, x
        for scale, factor in structure.SCALES.items():
            if scale != "quarter":
                x = _Doubling(factor * w, name=f"up_{scale}")(embedded)
            x = AttentionLayer(name=f"attention_{scale}")(x)
            lines = _Block(factor * w, 5, name=f"structure_{scale}")(x)
            embedded = jnp.concatenate([x, lines], axis=-1)  # [N, s, s, 2 · factor · w]
            gradients[scale] = _Head(6, self.head_norm, name=f"gradients_{scale}")(lines)
            if scale == "whole" or self.small_pictures:
                head = _Head(3, self.head_norm, name=f"picture_{scale}")
                pictures[scale] = nn.tanh(head(lines))
        return Predicted(pictures, gradients)


def generator(config: ConfigDict, dtype: DTypeLike = jnp.float32) -> Generator:
    """The generator that a config describes."""
    fields = config.lisk
    return Generator(
        fields.width, fields.residual_blocks, fields.head_norm, fields.small_pictures, dtype
    )


def fill(config: ConfigDict, variables: Variables, image: Any, mask: Any, noise: Noise) -> Any:
    """Î, see `Method.fill`."""
    del noise
    seen = structure.seen(config, image, mask)
    return apply(generator(config), variables["network"], seen).pictures["whole"]


def init(config: ConfigDict, key: jax.Array) -> Variables:
    """Glorot-uniform kernels, N(0, 0.02²) for queries, keys and values."""
    side = config.image_size
    seen = jnp.zeros((1, side, side, structure.INPUTS))
    return {"network": dict(generator(config).init(key, seen))}
