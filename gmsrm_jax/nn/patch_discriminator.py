"""A spectrally normalised PatchGAN (Isola et al., arXiv 1611.07004; Miyato et al., 1802.05957)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gmsrm_jax.nn.layers import LEAKY_SLOPE, PlainConv
from gmsrm_jax.runtime.errors import UserError


class PatchDiscriminator(nn.Module):
    """Spectrally normalised PatchGAN: 4×4 convs, strides 2, 2, 2, 1, 1, that see 70 px.

    Attributes:
        features: channels of the hidden convolutions; one more convolution gives the logits.
        dtype: format of feature maps, see `layers`.
        use_bias: of every convolution.
        kernel_init: initialiser.
        spectral: divide every kernel by its largest singular value.
        flat: so many convolutions, the last ones, have stride 1 instead of 2.
    """

    features: tuple[int, ...] = (64, 128, 256, 512)
    dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    spectral: bool = True
    flat: int = 2

    def __call__(
        self, image: jax.Array, condition: jax.Array | None = None, *, update_stats: bool
    ) -> jax.Array:
        """Judges patches: the last of `outputs`, float32 logits [N, h, w, 1].

        Args:
            image: [N, S, S, C].
            condition: [N, S, S, ·], such as the mask, for a discriminator that sees more.
            update_stats: run one power iteration and store its vectors ("batch_stats").
        """
        return self.outputs(image, condition, update_stats=update_stats)[-1]

    @nn.compact
    def outputs(
        self, image: jax.Array, condition: jax.Array | None = None, *, update_stats: bool
    ) -> tuple[jax.Array, ...]:
        """What every convolution gives, for feature matching; arguments as for a call.

        Returns:
            Activations of the hidden convolutions, and float32 logits [N, h, w, 1], 30×30 for a
            256 px image.

        Raises:
            UserError: the strides leave nothing of the images.
        """
        x = image if condition is None else jnp.concatenate([image, condition], axis=-1)
        x = x.astype(self.dtype)
        last = len(self.features)
        outputs = []
        for index, channels in enumerate((*self.features, 1)):
            layer = PlainConv(
                channels,
                4,
                2 if index <= last - self.flat else 1,
                1,
                self.kernel_init,
                result=x.dtype if index < last else jnp.float32,
                use_bias=self.use_bias,
                name=f"conv_{index}",
            )
            if self.spectral:
                norm = nn.SpectralNorm(layer, name=f"norm_{index}")
                x = norm(x, update_stats=update_stats)
            else:
                x = layer(x)
            if index < last:
                x = nn.leaky_relu(x, LEAKY_SLOPE)
            outputs.append(x)
        if not x.size:
            raise UserError(
                f"a discriminator of {last} hidden layers leaves nothing of pictures of "
                f"{image.shape[1]} px; name fewer discriminator_features, or take larger ones"
            )
        return tuple(outputs)
