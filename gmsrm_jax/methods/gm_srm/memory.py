"""The generative memory M (Eq. 4, Fig. 3): a StyleGAN2 synthesis network that can be queried.

Pre-training runs it from its constant input to an RGB image. Stage 2 asks for one level at a time,
through `first` and `second`, and puts the fusion with the encoder's feature between the two.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.nn.layers import (
    EqualDense,
    add_bias,
    fir_upsample,
    leaky_relu,
    modulated_conv,
    rematerialised,
)

NOISE_STRENGTH = "noise_strength"


def channel_table(size: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """C(r) = min(channel_base // r, channel_max) for r = 4, 8, …, size."""
    return {2**k: min(channel_base // 2**k, channel_max) for k in range(2, size.bit_length())}


def channels_of(config: ConfigDict) -> dict[int, int]:
    """The channels of a config's networks."""
    model = config.model
    return channel_table(config.image_size, model.channel_base, model.channel_max)


def memory_resolutions(size: int) -> list[int]:
    """Resolutions 4, 8, …, size / 2: the levels at which the memory is asked."""
    return [2**k for k in range(2, size.bit_length() - 1)]


def code_levels(size: int) -> int:
    """Number of codes a memory for images of this size takes: one for each resolution 4 … size."""
    return size.bit_length() - 2


def noise_shapes(batch: int, resolutions: list[int]) -> list[tuple[int, int, int, int]]:
    """Shapes of the noise maps: one for the convolution at 4×4, two at every other resolution."""
    return [(batch, r, r, 1) for r in resolutions for _ in range(1 if r == 4 else 2)]


def draw_noise(key: jax.Array, batch: int, resolutions: list[int]) -> list[jax.Array]:
    """Draws N(0, 1) noise maps [N, r, r, 1] in the order of `noise_shapes`."""
    shapes = noise_shapes(batch, resolutions)
    keys = jax.random.split(key, len(shapes))
    return [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]


class SynthesisLayer(nn.Module):
    """Modulated conv (optionally ×2 up-sampled before), noise, bias, leaky ReLU.

    Attributes:
        features: output channels.
        up: double the resolution first.
        noise_strength_init: start of the learned factor of the noise.
    """

    features: int
    up: bool = False
    noise_strength_init: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, code: jax.Array, noise: jax.Array) -> jax.Array:
        """Maps [N, h, w, I] with code [N, D] and noise [N, H, W, 1] to [N, H, W, features]."""
        channels = x.shape[-1]
        style = EqualDense(channels, bias_init=1.0, name="style")(code)
        kernel = self.param("kernel", nn.initializers.normal(1.0), (3, 3, channels, self.features))
        if self.up:
            x = fir_upsample(x)
        x = modulated_conv(x, kernel / float((9 * channels) ** 0.5), style)
        strength = self.param(
            NOISE_STRENGTH, nn.initializers.constant(self.noise_strength_init), ()
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = x.astype(jnp.float32) + strength * noise
        return leaky_relu(add_bias(y, bias)).astype(x.dtype)


class ToRGB(nn.Module):
    """1×1 modulated convolution to RGB, without demodulation."""

    @nn.compact
    def __call__(self, x: jax.Array, code: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] with code [N, D] to float32 [N, H, W, 3]."""
        channels = x.shape[-1]
        style = EqualDense(channels, bias_init=1.0, name="style")(code)
        kernel = self.param("kernel", nn.initializers.normal(1.0), (1, 1, channels, 3))
        bias = self.param("bias", nn.initializers.zeros, (3,))
        kernel = kernel / float(channels**0.5)
        rgb = modulated_conv(x, kernel, style, demodulate=False)
        return add_bias(rgb.astype(jnp.float32), bias)


class GenerativeMemory(nn.Module):
    """The synthesis network, by resolution 4, 8, …, size.

    Attributes:
        channels: resolution to number of channels, from 4 to the image size.
        noise_strength_init: start of every noise strength.
        dtype: format of feature maps, see `layers`.
        remat_from: see `layers.rematerialised`.
    """

    channels: dict[int, int]
    noise_strength_init: float = 0.0
    dtype: DTypeLike = jnp.float32
    remat_from: int = 0

    def setup(self) -> None:
        """Names each layer after its resolution, so that parameters can be found by eye."""
        self.constant = self.param(
            "constant", nn.initializers.normal(1.0), (1, 4, 4, self.channels[4])
        )
        self.resolutions = sorted(self.channels)
        init = self.noise_strength_init
        up, conv, rgb = {}, {}, {}
        for r in self.resolutions:
            layer, to_rgb = (
                rematerialised(kind, r, self.remat_from) for kind in (SynthesisLayer, ToRGB)
            )
            if r > 4:
                up[r] = layer(self.channels[r], True, init, name=f"up_{r}")
            conv[r] = layer(self.channels[r], False, init, name=f"conv_{r}")
            rgb[r] = to_rgb(name=f"rgb_{r}")
        self.up_layers, self.conv_layers, self.rgb_layers = up, conv, rgb

    def start(self, batch: int) -> jax.Array:
        """The learned constant, [N, 4, 4, C(4)]: what level 1 has in place of a first conv."""
        return jnp.tile(self.constant, (batch, 1, 1, 1)).astype(self.dtype)

    def first(self, x: jax.Array, code: jax.Array, noise: jax.Array) -> jax.Array:
        """First convolution of a level, from the previous level's F_M [N, r/2, r/2, ·] to r×r."""
        return self.up_layers[2 * x.shape[1]](x, code, noise)

    def second(self, x: jax.Array, code: jax.Array, noise: jax.Array) -> jax.Array:
        """Last convolution of a level, [N, r, r, C(r)] to F_M of the same shape."""
        return self.conv_layers[x.shape[1]](x, code, noise)

    def __call__(self, codes: jax.Array, noise: list[jax.Array]) -> jax.Array:
        """Synthesises images, as in pre-training.

        Args:
            codes: [N, number of resolutions, D], one code for each resolution.
            noise: N(0, 1) maps in the order of `noise_shapes` for all resolutions.

        Returns:
            Float32 [N, S, S, 3], about [-1, 1] once trained (no squashing).
        """
        if codes.shape[1] != len(self.resolutions):
            raise ValueError(f"{codes.shape[1]} codes for resolutions {self.resolutions}")
        maps = iter(noise)
        x = self.start(codes.shape[0])
        image = jnp.zeros((codes.shape[0], 2, 2, 3))
        for level, r in enumerate(self.resolutions):
            code = codes[:, level]
            if r > 4:
                x = self.first(x, code, next(maps))
            x = self.second(x, code, next(maps))
            rgb = self.rgb_layers[r](x, code)
            image = fir_upsample(image) + rgb
        return image


class MappingNetwork(nn.Module):
    """z to w (StyleGAN2): normalise, then dense layers with leaky ReLU and rate multiplier 0.01."""

    features: int
    layers: int = 2

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps N(0, 1) latents [N, D] to codes [N, features]."""
        x = z * jax.lax.rsqrt(jnp.square(z).mean(-1, keepdims=True) + 1e-8)
        for index in range(self.layers):
            x = leaky_relu(EqualDense(self.features, lr_multiplier=0.01, name=f"dense_{index}")(x))
        return x
