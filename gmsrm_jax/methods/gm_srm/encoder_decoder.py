"""Encoder (Eq. 2), decoder (Eq. 6), query code (Eq. 3, 7) and noise statistics (Eq. 8)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gmsrm_jax.nn.layers import (
    LEAKY_SLOPE,
    ChannelAttention,
    Conv,
    EqualDense,
    average_pool,
    bilinear_upsample,
    instance_norm,
    rematerialised,
)


class ResidualAttention(nn.Module):
    """The second half of Eq. 2 and 6: x + CA(ReLU(IN(conv3×3(x))))."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to the same shape."""
        y = nn.relu(instance_norm(Conv(x.shape[-1], name="conv")(x)))
        return x + ChannelAttention(name="attention")(y)


class Encoder(nn.Module):
    """The encoder E: a stem, then one stride-2 block for each halving down to 4×4 (Eq. 2).

    Attributes:
        channels: resolution to number of channels, from the image size down to 4.
        dtype: format of feature maps, see `layers`.
        remat_from: see `layers.rematerialised`.
    """

    channels: dict[int, int]
    dtype: DTypeLike = jnp.float32
    remat_from: int = 0

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array) -> dict[int, jax.Array]:
        """Encodes the known pixels.

        Args:
            image: [N, S, S, 3] in [-1, 1]; what lies in the hole is not looked at.
            mask: [N, S, S, 1], 1 in the hole.

        Returns:
            For each resolution r = S, S/2, …, 4 a feature [N, r, r, C(r)]: F_E of the paper,
            and the stem's output at r = S.
        """
        size = image.shape[1]
        x = jnp.concatenate([image * (1.0 - mask), mask], axis=-1).astype(self.dtype)
        x = Conv(self.channels[size], name="stem")(x)
        features = {size: x}
        resolution = size // 2
        while resolution >= 4:
            x = rematerialised(_halved, resolution, self.remat_from)(self, x)
            features[resolution] = x
            resolution //= 2
        return features


def _halved(encoder: Encoder, x: jax.Array) -> jax.Array:
    """One block of the encoder, which has its layers under their own names."""
    resolution = x.shape[1] // 2
    x = Conv(encoder.channels[resolution], stride=2, name=f"down_{resolution}")(x)
    return ResidualAttention(name=f"block_{resolution}")(nn.relu(instance_norm(x)))


class DecoderBlock(nn.Module):
    """One level of the decoder D (Eq. 6): concatenate, up-sample ×2, conv, IN, ReLU, attention."""

    features: int

    @nn.compact
    def __call__(self, inputs: list[jax.Array]) -> jax.Array:
        """Maps features [N, r, r, ·] to F_D of this level, [N, 2r, 2r, features]."""
        x = bilinear_upsample(jnp.concatenate(inputs, axis=-1))
        x = nn.relu(instance_norm(Conv(self.features, name="up")(x)))
        return ResidualAttention(name="block")(x)


class GridVector(nn.Module):
    """A feature map to a vector: pool, conv 3×3, leaky ReLU 0.2, pool to a grid, flatten, dense.

    This is f_c of Eq. 3 and 7 and the map behind Eq. 8. The grid stays: behind instance norms the
    mean over all pixels hardly differs between images.

    Attributes:
        features: size of the vector.
        channels: width of the convolution.
        grid: side of the grid that is flattened.
        zero_init: the vector starts at zero, whatever the input.
        rate: of the dense layer, relative to the others, by equalised weights: coherent gradients
            would move the output of a plain one by its fan-in times the rate. 0 for a plain one.
        pool: larger maps are averaged to this side before the convolution, whose full resolution
            the grid does not see; 0 for never.
    """

    features: int
    channels: int = 64
    grid: int = 4
    zero_init: bool = False
    rate: float = 0.1
    pool: int = 16

    @nn.compact
    def __call__(self, *maps: jax.Array) -> jax.Array:
        """Maps [N, r, r, C], one or more, r a multiple of the grid, to float32 [N, features]."""
        x = jnp.concatenate(maps, axis=-1)
        if self.pool and x.shape[1] > self.pool:
            x = average_pool(x, self.pool).astype(x.dtype)
        x = nn.leaky_relu(Conv(self.channels, name="conv")(x), LEAKY_SLOPE)
        x = average_pool(x, self.grid)
        x = x.reshape(x.shape[0], -1)
        if self.rate:
            return EqualDense(self.features, self.rate, zero_init=self.zero_init, name="dense")(x)
        init = nn.initializers.zeros if self.zero_init else nn.initializers.lecun_normal()
        return nn.Dense(self.features, kernel_init=init, name="dense")(x)
