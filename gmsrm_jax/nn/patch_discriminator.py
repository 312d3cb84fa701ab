"""A spectrally normalised PatchGAN (Isola et al., arXiv 1611.07004; Miyato et al., 1802.05957)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gmsrm_jax.nn.layers import LEAKY_SLOPE, PlainConv


class PatchDiscriminator(nn.Module):
    """Spectrally normalised PatchGAN (stage 2): 4×4 convs, strides 2, 2, 2, 1, 1.

    Attributes:
        features: channels of the hidden convolutions; one more convolution gives the logits.
        dtype: format of feature maps, see `layers`.
    """

    features: tuple[int, ...] = (64, 128, 256, 512)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array | None = None, *, update_stats: bool
    ) -> jax.Array:
        """Judges patches.

        Args:
            image: [N, S, S, 3] in [-1, 1].
            mask: [N, S, S, 1] for a discriminator that is conditioned on the hole, else None.
            update_stats: run one power iteration and store its vectors ("batch_stats").

        Returns:
            Float32 logits [N, h, w, 1], 30×30 for a 256 px image.
        """
        x = image if mask is None else jnp.concatenate([image, mask], axis=-1)
        x = x.astype(self.dtype)
        last = len(self.features)
        for index, channels in enumerate((*self.features, 1)):
            stride = 2 if index < last - 1 else 1
            result = x.dtype if index < last else jnp.float32
            layer = PlainConv(channels, 4, stride, 1, result=result, name=f"conv_{index}")
            x = nn.SpectralNorm(layer, name=f"norm_{index}")(x, update_stats=update_stats)
            if index < last:
                x = nn.leaky_relu(x, LEAKY_SLOPE)
        return x
