"""StyleGAN2's residual discriminator (arXiv 1912.04958), for stage 1."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.gm_srm.memory import channels_of
from gmsrm_jax.nn.layers import (
    EqualConv,
    EqualDense,
    leaky_relu,
    minibatch_stddev,
    rematerialised,
)


class ResidualDown(nn.Module):
    """One halving of the resolution: conv, conv ×1/2, plus a skip, both scaled by sqrt(1/2).

    Attributes:
        features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, r, r, C] to [N, r/2, r/2, features]."""
        y = leaky_relu(EqualConv(x.shape[-1], name="conv")(x))
        y = leaky_relu(EqualConv(self.features, down=True, name="down")(y))
        skip = EqualConv(self.features, 1, down=True, use_bias=False, name="skip")(x)
        return (y + skip) * (0.5**0.5)


class MemoryDiscriminator(nn.Module):
    """StyleGAN2's residual discriminator of RGB images (stage 1).

    Attributes:
        channels: resolution to number of channels, from the image size down to 4.
        dtype: format of feature maps, see `layers`.
        remat_from: see `layers.rematerialised`.
    """

    channels: dict[int, int]
    dtype: DTypeLike = jnp.float32
    remat_from: int = 0

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Maps images [N, S, S, 3] to float32 logits [N]; positive means real."""
        size = image.shape[1]
        x = image.astype(self.dtype)
        x = leaky_relu(EqualConv(self.channels[size], 1, name="from_rgb")(x))
        resolution = size
        while resolution > 4:
            block = rematerialised(ResidualDown, resolution, self.remat_from)
            x = block(self.channels[resolution // 2], name=f"block_{resolution}")(x)
            resolution //= 2
        x = minibatch_stddev(x)
        x = leaky_relu(EqualConv(self.channels[4], name="conv_4")(x))
        x = leaky_relu(EqualDense(self.channels[4], name="dense")(x.reshape(x.shape[0], -1)))
        return EqualDense(1, name="logit")(x.astype(jnp.float32))[:, 0]


def build_discriminator(config: ConfigDict, dtype: DTypeLike = jnp.float32) -> MemoryDiscriminator:
    """The discriminator that a config describes, with feature maps in `dtype`."""
    return MemoryDiscriminator(channels_of(config), dtype, config.model.remat_from)
