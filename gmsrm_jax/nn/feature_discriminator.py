"""A discriminator of a few layers on frozen features (Projected GANs, arXiv 2111.01007)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gmsrm_jax.nn.layers import LEAKY_SLOPE, PlainConv, average_pool
from gmsrm_jax.runtime.errors import UserError


class FeatureDiscriminator(nn.Module):
    """One head for each map: 1×1, then 4×4 with stride 2, then 4×4 to logits, spectral norms.

    Each map is normalised by its root mean square, for layers of a VGG differ in size.

    Attributes:
        features: channels of the hidden convolutions.
        dtype: format of feature maps, see `layers`.
    """

    features: int = 64
    dtype: DTypeLike = jnp.float32

    def __call__(
        self, maps: tuple[jax.Array, ...], mask: jax.Array, *, update_stats: bool
    ) -> jax.Array:
        """Judges pictures by their features: the last of `outputs`."""
        return self.outputs(maps, mask, update_stats=update_stats)[-1]

    @nn.compact
    def outputs(
        self, maps: tuple[jax.Array, ...], mask: jax.Array, *, update_stats: bool
    ) -> tuple[jax.Array, ...]:
        """What the hidden convolutions give, and all logits.

        Args:
            maps: [N, r, r, C] each, r a divisor of S.
            mask: [N, S, S, 1], 1 in the hole.
            update_stats: run one power iteration and store its vectors ("batch_stats").

        Returns:
            Activations, two a map, and float32 logits [N, places of all maps].

        Raises:
            UserError: a map's side does not divide that of the mask.
        """
        hidden, logits = [], []
        for index, x in enumerate(maps):
            if mask.shape[1] % x.shape[1]:
                raise UserError(
                    f"of a crop of {mask.shape[1]} px a discriminator on features sees maps of "
                    f"{x.shape[1]} px; use a multiple of 16 px"
                )
            size = jnp.sqrt(jnp.square(x).mean((1, 2, 3), keepdims=True) + 1e-8)
            x = jnp.concatenate([x / size, average_pool(mask, x.shape[1])], axis=-1)
            x = x.astype(self.dtype)
            for layer, (kernel, stride) in enumerate([(1, 1), (4, 2), (4, 1)]):
                last = layer == 2
                conv = PlainConv(
                    1 if last else self.features,
                    kernel,
                    stride,
                    0 if kernel == 1 else 1,
                    result=jnp.float32 if last else None,
                    name=f"conv_{index}_{layer}",
                )
                norm = nn.SpectralNorm(conv, name=f"norm_{index}_{layer}")
                x = norm(x, update_stats=update_stats)
                if not last:
                    x = nn.leaky_relu(x, LEAKY_SLOPE)
                    hidden.append(x)
            logits.append(x.reshape(len(x), -1))
        return (*hidden, jnp.concatenate(logits, axis=1))
