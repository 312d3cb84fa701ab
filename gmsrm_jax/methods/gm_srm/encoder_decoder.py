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
        y = nn.relu(instance_norm(Conv(x.shape[-1], use_bias=False, name="conv")(x)))
        return x + ChannelAttention(name="attention")(y)


def known_input(image: jax.Array, mask: jax.Array, size: int) -> jax.Array:
    """[I · (1 - M), M], what a network is given, float32 [N, size, size, 4].

    A pixel of a smaller size is a square's mean, and is known if all of the square is.

    Args:
        image: [N, S, S, 3] in [-1, 1]; what lies in the hole is not looked at.
        mask: [N, S, S, 1], 1 in the hole.
        size: a divisor of S.
    """
    known = 1.0 - mask
    image = image * known
    if size < image.shape[1]:
        known = (average_pool(known, size) >= 1.0).astype(jnp.float32)
        image = average_pool(image, size) * known
    return jnp.concatenate([image, 1.0 - known], axis=-1)


def pyramid_sizes(size: int, pyramid_from: int) -> list[int]:
    """Sizes at which a network reads the picture and adds to the output, the smallest first."""
    return [r for r in (size >> k for k in range(size.bit_length())) if r >= pyramid_from][::-1]


class Encoder(nn.Module):
    """The encoder E: a stem, then one stride-2 block for each halving down to 4×4 (Eq. 2).

    With a pyramid the picture is read again, shrunk, at every size down to its smallest, where a
    stem of that size gives what a 1×1 convolution of the block, at first zero, is added to.

    Attributes:
        channels: resolution to number of channels, from the image size down to 4.
        dtype: format of feature maps, see `layers`.
        remat_from: see `layers.rematerialised`.
        pyramid_from: the pyramid's smallest size; 0 for none.
    """

    channels: dict[int, int]
    dtype: DTypeLike = jnp.float32
    remat_from: int = 0
    pyramid_from: int = 0

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
        reads = pyramid_sizes(size, self.pyramid_from) if self.pyramid_from else [size]

        def read(resolution: int) -> jax.Array:
            name = f"stem_{resolution}" if self.pyramid_from else "stem"
            given = known_input(image, mask, resolution).astype(self.dtype)
            return Conv(self.channels[resolution], name=name)(given)

        x = read(size)
        features = {size: x}
        resolution = size // 2
        while resolution >= 4:
            x = rematerialised(_halved, resolution, self.remat_from)(self, x)
            if resolution in reads:
                # At first zero, so that a network that has grown begins as the smaller one.
                channels, name = self.channels[resolution], f"join_{resolution}"
                joined = Conv(channels, 1, zero_init=True, use_bias=False, name=name)(x)
                x = read(resolution) + joined
            features[resolution] = x
            resolution //= 2
        return features


def _halved(encoder: Encoder, x: jax.Array) -> jax.Array:
    """One block of the encoder, which has its layers under their own names."""
    resolution = x.shape[1] // 2
    channels = encoder.channels[resolution]
    x = Conv(channels, stride=2, use_bias=False, name=f"down_{resolution}")(x)
    return ResidualAttention(name=f"block_{resolution}")(nn.relu(instance_norm(x)))


class DecoderBlock(nn.Module):
    """One level of the decoder D (Eq. 6): concatenate, up-sample ×2, conv, IN, ReLU, attention."""

    features: int

    @nn.compact
    def __call__(self, inputs: list[jax.Array]) -> jax.Array:
        """Maps features [N, r, r, ·] to F_D of this level, [N, 2r, 2r, features]."""
        x = bilinear_upsample(jnp.concatenate(inputs, axis=-1))
        x = nn.relu(instance_norm(Conv(self.features, use_bias=False, name="up")(x)))
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
