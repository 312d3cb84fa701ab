"""Transposed convolution; arrays and formats are those of `layers`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gmsrm_jax.nn.layers import add_bias, conv


def transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Doubles height and width: `lax.conv_transpose` with stride 2 and "SAME", by phases.

    Output (2i + a, 2j + b) is a 2×2 convolution at (i + a, j + b) of the zero-padded input with the
    taps [a::2, b::2]. On a CPU the gradient of the strided form's kernel takes 60 times as long.

    Args:
        x: [N, H, W, I].
        kernel: [4, 4, I, O], in `lax.conv_transpose`'s order (PyTorch's has both sides flipped).

    Returns:
        [N, 2H, 2W, O], in x's format.
    """
    n, h, w, _ = x.shape
    padded = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    rows = []
    for a in (0, 1):
        here = jax.lax.slice_in_dim(padded, a, a + h + 1, axis=1)
        phases = [
            conv(
                jax.lax.slice_in_dim(here, b, b + w + 1, axis=2),
                kernel[a::2, b::2],
                padding="VALID",
            )
            for b in (0, 1)
        ]
        rows.append(jnp.stack(phases, 3))
    return jnp.stack(rows, 2).reshape(n, 2 * h, 2 * w, -1)


class TransposedConv(nn.Module):
    """`transposed_conv` as a layer.

    Attributes:
        features: output channels.
        kernel_init: initialiser.
        use_bias: add one number to each output channel.
    """

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, I] to [N, 2H, 2W, features]."""
        kernel = self.param("kernel", self.kernel_init, (4, 4, x.shape[-1], self.features))
        y = transposed_conv(x, kernel)
        if not self.use_bias:
            return y
        return add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,)))
