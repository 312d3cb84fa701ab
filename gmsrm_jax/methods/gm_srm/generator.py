"""The generator of stage 1: where codes come from, in front of the generative memory."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.gm_srm.encoder_decoder import Encoder, GridVector
from gmsrm_jax.methods.gm_srm.fields import model_fields
from gmsrm_jax.methods.gm_srm.memory import (
    GenerativeMemory,
    MappingNetwork,
    channels_of,
    code_levels,
)


def draw_cuts(key: jax.Array, count: int, levels: int, probability: float) -> jax.Array:
    """Draws for style mixing each example's first foreign level, int32 [N].

    Args:
        key: random key.
        count: number of examples.
        levels: number of codes of an example, L.
        probability: share of the examples that are mixed, with a level uniform over 1 … L - 1; the
            others have L.
    """
    key_cut, key_mix = jax.random.split(key)
    cuts = jax.random.randint(key_cut, (count,), 1, levels)
    return jnp.where(jax.random.uniform(key_mix, (count,)) < probability, cuts, levels)


def mix_codes(codes: jax.Array, others: jax.Array, cuts: jax.Array) -> jax.Array:
    """Style mixing: from a level on, an example takes its codes from another one.

    Args:
        codes: [N, L, D].
        others: [N, L, D], the codes to mix in.
        cuts: int32 [N], the first foreign level.

    Returns:
        Mixed codes [N, L, D]; an unmixed example comes back as it was.
    """
    foreign = jnp.arange(codes.shape[1])[None, :] >= cuts[:, None]
    return jnp.where(foreign[:, :, None], others, codes)


class MemoryGenerator(nn.Module):
    """A code source and the memory.

    Attributes:
        channels: resolution to number of channels, from 4 to the image size.
        code_source: "encoder" (holed image → E → f_c, Eq. 3) or "mapping" (z → w).
        mapping_layers: depth of the mapping network.
        noise_strength_init: start of the memory's noise strengths.
        dtype: format of feature maps, see `layers`.

    All others are those of `fields.Model`; z has the size of a code.
    """

    channels: dict[int, int]
    code_source: str = "encoder"
    code_dim: int = 512
    code_channels: int = 64
    mapping_layers: int = 2
    noise_strength_init: float = 0.0
    dtype: DTypeLike = jnp.float32
    remat_from: int = 0
    head_rate: float = 0.1
    query_pool: int = 16
    pyramid_from: int = 0

    def setup(self) -> None:
        """Names the parts as the network of stage 2 names them."""
        if self.code_source == "encoder":
            self.encoder = Encoder(
                self.channels, self.dtype, self.remat_from, self.pyramid_from, name="encoder"
            )
            self.query = GridVector(
                self.code_dim,
                self.code_channels,
                rate=self.head_rate,
                pool=self.query_pool,
                name="query_4",
            )
        else:
            self.mapping = MappingNetwork(self.code_dim, self.mapping_layers, name="mapping")
        self.memory = GenerativeMemory(
            self.channels, self.noise_strength_init, self.dtype, self.remat_from, name="memory"
        )

    def codes(self, image: jax.Array, mask: jax.Array, latent: jax.Array) -> jax.Array:
        """One code for each example, the same at every level: [N, L, D].

        Args:
            image: [N, S, S, 3] in [-1, 1]; only its known pixels are used, by the encoder source.
            mask: [N, S, S, 1], 1 in the hole.
            latent: [N, D] of N(0, 1), used by the mapping source.
        """
        if self.code_source == "encoder":
            code = self.query(self.encoder(image, mask)[4])
        else:
            code = self.mapping(latent)
        return jnp.repeat(code[:, None, :], code_levels(max(self.channels)), axis=1)

    def synthesise(self, codes: jax.Array, noise: list[jax.Array]) -> jax.Array:
        """Images [N, S, S, 3] from codes [N, L, D] and the memory's noise maps."""
        return self.memory(codes, noise)

    def __call__(
        self, image: jax.Array, mask: jax.Array, latent: jax.Array, noise: list[jax.Array]
    ) -> jax.Array:
        """Images [N, S, S, 3] without style mixing."""
        return self.synthesise(self.codes(image, mask, latent), noise)


def build_generator(config: ConfigDict, dtype: DTypeLike = jnp.float32) -> MemoryGenerator:
    """The generator that a config describes.

    Args:
        config: the run's config.
        dtype: of feature maps.
    """
    memory = config.memory
    return MemoryGenerator(
        channels_of(config),
        code_source=memory.code_source,
        mapping_layers=memory.mapping_layers,
        noise_strength_init=memory.noise_strength_init,
        dtype=dtype,
        **model_fields(MemoryGenerator, config),
    )
