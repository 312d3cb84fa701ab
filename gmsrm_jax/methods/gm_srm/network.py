"""GM-SRM whole: encoder, progressive queries of the generative memory, decoder (Algorithm 1)."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.gm_srm.encoder_decoder import (
    DecoderBlock,
    Encoder,
    GridVector,
    known_input,
    pyramid_sizes,
)
from gmsrm_jax.methods.gm_srm.fields import VARIANTS, model_fields
from gmsrm_jax.methods.gm_srm.memory import (
    NOISE_STRENGTH,
    GenerativeMemory,
    channels_of,
    memory_resolutions,
)
from gmsrm_jax.nn.layers import Conv, add_bias, bilinear_upsample, conv, rematerialised
from gmsrm_jax.nn.smooth_fill import smooth_fill

NETWORK = "network"
_SOFT_LIMIT = 4.0  # of μ_i and log σ_i²
_LOG_VARIANCE_CLIP = 10.0
_INSIDE = 0.98  # colours in front of arctanh, which is infinite at ±1; 0.02 is 2.5 of 255


class Fusion(nn.Module):
    """The trainable 3×3 convolution that joins memory and encoder features, to the memory's C.

    It starts as a pass-through of the memory's half, so stage 2 begins with exactly the pre-trained
    memory.

    Attributes:
        kernel_size: side, 3 or 1.
        rescale: each example leaves it as large as the memory's half came, by root mean square. The
            decoder normalises what it is given, so nothing else holds the size, and gains of one
            level multiply with those of the next.
    """

    kernel_size: int = 3
    rescale: bool = False

    @nn.compact
    def __call__(self, memory: jax.Array, encoder: jax.Array) -> jax.Array:
        """Maps the memory's [N, r, r, C] and the encoder's [N, r, r, ·] to [N, r, r, C]."""
        channels = memory.shape[-1]

        def pass_through(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
            del key
            middle = shape[0] // 2
            kernel = jnp.zeros(shape, dtype)
            return kernel.at[middle, middle, :channels, :].set(jnp.eye(channels, dtype=dtype))

        k = self.kernel_size
        shape = (k, k, channels + encoder.shape[-1], channels)
        kernel = self.param("kernel", pass_through, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x = jnp.concatenate([memory, encoder], axis=-1)
        joined = add_bias(conv(x, kernel), bias)
        if not self.rescale:
            return joined
        return (joined * (_size(memory) / _size(joined))).astype(joined.dtype)


def _size(x: jax.Array) -> jax.Array:
    """Root mean square of each example, float32 [N, 1, 1, 1]."""
    square = jnp.square(x.astype(jnp.float32)).mean((1, 2, 3), keepdims=True)
    return jnp.sqrt(square + 1e-8)


class Filled(NamedTuple):
    """What the network gives, in float32.

    Attributes:
        image: raw output Î, [N, S, S, 3] in [-1, 1]; known pixels are predicted too.
        mean: μ_i of Eq. 8, [N, levels]; zeros without conditional noise.
        log_variance: log σ_i², [N, levels].
    """

    image: jax.Array
    mean: jax.Array
    log_variance: jax.Array


class InpaintingNetwork(nn.Module):
    """The network of stage 2; one code path for the four variants of Table IV.

    Attributes:
        channels: resolution to number of channels, from 4 to the image size.
        variant: a key of VARIANTS.
        code_source: "encoder" (c¹ = f_c) or "mapping" (c¹ = average code + f_c).
        dtype: format of feature maps, see `layers`.
        pyramid_from: see `Encoder`; at these sizes the memory is fused with the shrunk input too,
            and an output convolution adds to the enlarged output of the smaller sizes.

    All others are those of `fields.Model`.
    """

    channels: dict[int, int]
    variant: str = "gm_srm"
    code_dim: int = 512
    code_channels: int = 64
    code_source: str = "encoder"
    noise_statistics: str = "encoder_decoder"
    fusion_kernel: int = 3
    fusion_rescale: bool = False
    memory_at_full_size: bool = True
    noise_limit: str = "soft"
    head_rate: float = 0.1
    query_pool: int = 16
    stem_skip: bool = False
    smooth_skip: bool = False
    smooth_residual: str = "linear"
    dtype: DTypeLike = jnp.float32
    remat_from: int = 0
    pyramid_from: int = 0

    def setup(self) -> None:
        """Names each part after its resolution; the same names in every variant."""
        parts = VARIANTS[self.variant]
        size = max(self.channels)

        def block(kind: Any, resolution: int) -> Any:
            return rematerialised(kind, resolution, self.remat_from)

        self.encoder = Encoder(
            self.channels, self.dtype, self.remat_from, self.pyramid_from, name="encoder"
        )
        self.levels = memory_resolutions(size)
        self.asked = [*self.levels, size] if self.memory_at_full_size else self.levels
        if parts.memory:
            self.memory = GenerativeMemory(
                self.channels, dtype=self.dtype, remat_from=self.remat_from, name="memory"
            )
            self.fusions = {
                r: block(Fusion, r)(self.fusion_kernel, self.fusion_rescale, name=f"fusion_{r}")
                for r in self.asked
            }
            mapping = self.code_source == "mapping"
            coded = self.asked if parts.progressive else self.asked[:1]
            self.codes = {
                r: block(GridVector, r)(
                    self.code_dim,
                    self.code_channels,
                    zero_init=r > 4 or mapping,
                    rate=self.head_rate,
                    pool=self.query_pool,
                    name=f"query_{r}",
                )
                for r in coded
            }
            if mapping:
                self.average_code = self.param(
                    "average_code", nn.initializers.zeros, (self.code_dim,)
                )
        if parts.conditional_noise:
            self.statistics = {
                r: block(GridVector, r)(
                    2,
                    self.code_channels,
                    zero_init=True,
                    rate=self.head_rate,
                    pool=self.query_pool,
                    name=f"statistics_{r}",
                )
                for r in self.asked
            }
        self.decoder = {
            r: block(DecoderBlock, 2 * r)(self.channels[2 * r], name=f"decoder_{r}")
            for r in self.levels
        }
        reads = pyramid_sizes(size, self.pyramid_from) if self.pyramid_from else [size]
        self.outputs = {
            r: Conv(
                3,
                result=jnp.float32,
                zero_init=self.smooth_skip,
                name=f"output_{r}" if self.pyramid_from else "output",
            )
            for r in reads
        }

    def query(self, resolution: int, previous: jax.Array, code: jax.Array | None) -> jax.Array:
        """The code c^i of a level: Eq. 3 at 4×4, Eq. 7 above it.

        Args:
            resolution: r of the level.
            previous: F_D^(i-1), [N, r, r, ·]; at 4×4 this is F_E.
            code: c^(i-1), [N, D]; None at the first level.
        """
        if resolution not in self.codes:
            if code is None:
                raise ValueError("the first level must have a query code")
            return code
        update = self.codes[resolution](previous)
        if code is not None:
            return code + update
        return self.average_code[None, :] + update if self.code_source == "mapping" else update

    def noise_moments(
        self, resolution: int, encoded: jax.Array, previous: jax.Array, *more: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """μ_i and log σ_i² of Eq. 8, each [N]; zeros for a variant with N(0, 1) noise.

        At the sizes of a pyramid `encoded` is the input, and F_E^i comes behind the others.
        Both are limited softly, 4·tanh(z/4): whatever z, the divergence of Eq. 9, which is taken of
        what this gives, pulls it back. A clip has no gradient behind its limit.
        """
        if not VARIANTS[self.variant].conditional_noise:
            zeros = jnp.zeros(encoded.shape[:1])
            return zeros, zeros
        seen = [encoded, previous] if self.noise_statistics == "encoder_decoder" else [encoded]
        moments = self.statistics[resolution](*seen, *more)
        if self.noise_limit == "soft":
            moments = _SOFT_LIMIT * jnp.tanh(moments / _SOFT_LIMIT)
            return moments[:, 0], moments[:, 1]
        return moments[:, 0], jnp.clip(moments[:, 1], -_LOG_VARIANCE_CLIP, _LOG_VARIANCE_CLIP)

    def ask_memory(
        self,
        x: jax.Array | None,
        encoded: jax.Array,
        code: jax.Array,
        noise: list[jax.Array],
    ) -> jax.Array:
        """F_M^i of Eq. 4: first conv of the level, fusion with F_E^i, second conv."""
        if x is None:
            x = self.memory.start(encoded.shape[0])
        else:
            x = self.memory.first(x, code, noise[0])
        x = self.fusions[encoded.shape[1]](x, encoded)
        return self.memory.second(x, code, noise[-1])

    def __call__(self, image: jax.Array, mask: jax.Array, noise: list[jax.Array]) -> Filled:
        """Predicts the whole image from its known pixels (Algorithm 1).

        Args:
            image: [N, S, S, 3] in [-1, 1]; what lies in the hole is not looked at.
            mask: [N, S, S, 1], 1 in the hole.
            noise: ε, N(0, 1) maps of `memory.noise_shapes` for `asked_resolutions`; zeros give the
                filling at mean noise. Unused by `base`.
        """
        if mask.shape != (*image.shape[:3], 1) or image.shape[1] != max(self.channels):
            raise ValueError(f"image {image.shape}, mask {mask.shape}, size {max(self.channels)}")
        size = image.shape[1]
        features = self.encoder(image, mask)  # F_E, Eq. 2: [N, r, r, C(r)] by r
        asks = VARIANTS[self.variant].memory
        maps = iter(noise)
        decoded, code, remembered = features[4], None, None
        raw = jnp.zeros((image.shape[0], 1, 1, 3))
        means, log_variances = [], []
        for r in [*self.levels, size]:
            # F_E^i; where the picture is read, it is what is read (F_E^1 of Algorithm 1).
            encoded = [features[r]]
            if r in self.outputs:
                given = known_input(image, mask, r).astype(self.dtype)
                encoded = [given, features[r]] if r < size else [given]
            found = []
            if r in (self.asked if asks else self.levels):
                # μ_i and log σ_i², Eq. 8: [N]
                mean, log_variance = self.noise_moments(r, encoded[0], decoded, *encoded[1:])
                means.append(mean)
                log_variances.append(log_variance)
            if asks and r in self.asked:
                code = self.query(r, decoded, code)  # c^i, Eq. 3 and 7: [N, D]
                sigma = jnp.exp(0.5 * log_variance)
                level_noise = [  # N(μ_i, σ_i²): [N, r, r, 1]
                    mean[:, None, None, None] + sigma[:, None, None, None] * next(maps)
                    for _ in range(1 if r == 4 else 2)
                ]
                fused = jnp.concatenate(encoded, axis=-1)
                # F_M^i, Eq. 4: [N, r, r, C(r)]
                remembered = self.ask_memory(remembered, fused, code, level_noise)
                found = [remembered]
            if r in self.outputs:
                seen = [*(found if self.memory_at_full_size else []), decoded]
                seen += [features[r]] if self.stem_skip else []
                own = self.outputs[r](jnp.concatenate(seen, axis=-1))
                raw = own if r == min(self.outputs) else bilinear_upsample(raw) + own
            if r < size:  # F_D^i, Eq. 6: [N, 2r, 2r, C(2r)]
                decoded = self.decoder[r]([*found, features[r], decoded])
        if self.smooth_skip and self.smooth_residual == "linear":
            filled = smooth_fill(image, mask) + raw
        elif self.smooth_skip:
            filled = jnp.tanh(raw + jnp.arctanh(_INSIDE * smooth_fill(image, mask)))
        else:
            filled = jnp.tanh(raw)
        return Filled(filled, jnp.stack(means, 1), jnp.stack(log_variances, 1))


def asked_resolutions(config: ConfigDict) -> list[int]:
    """Resolutions at which the memory is asked: 4, 8, …, S / 2, and S where the config says so."""
    size = config.image_size
    return [*memory_resolutions(size), *([size] if config.model.memory_at_full_size else [])]


def build_network(config: ConfigDict, dtype: DTypeLike = jnp.float32) -> InpaintingNetwork:
    """The network that a config describes.

    Args:
        config: the run's config.
        dtype: format of feature maps. Training gives `config.compute_dtype`; whoever evaluates or
            fills holes has float32 unless it asks for something else.
    """
    return InpaintingNetwork(
        channels=channels_of(config),
        variant=config.variant,
        code_source=config.memory.code_source,
        dtype=dtype,
        **model_fields(InpaintingNetwork, config),
    )


def has_no_effect(path: tuple[str, ...]) -> bool:
    """Whether a weight of an earlier version is a bias in front of an instance norm."""
    if path[0] != NETWORK or path[-2:] != ("conv", "bias"):
        return False
    _, _, module, *layers = path
    return module.startswith(("encoder", "decoder_")) and not layers[0].startswith("stem")


def is_frozen(path: tuple[str, ...], train_noise_strength: bool) -> bool:
    """Whether stage 2 keeps the parameter of this path as stage 1 left it.

    Frozen are the memory and the average code of the mapping source; with `train_noise_strength`
    the memory's noise strengths are optimised.
    """
    if train_noise_strength and path[-1] == NOISE_STRENGTH:
        return False
    return path[0] in ("memory", "average_code")
