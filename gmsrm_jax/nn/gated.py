"""Gated convolution (Yu et al., arXiv 1806.03589, Sec. 3.1): a soft mask for every value."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gmsrm_jax.nn.layers import PlainConv

Start = Literal["gained", "glorot"]
GAIN = 2.2  # of features; with it a dozen layers keep the size of their input


class GatedConv(nn.Module):
    """φ(a) · σ(g) with a, g = the first and the second half of one convolution's channels.

    Outside are zeros, as many as TensorFlow's "SAME" has: at stride 2 of an even size, the odd one
    below and to the right.

    Attributes:
        features: output channels.
        kernel_size: side of the kernel.
        stride: between two outputs.
        dilation: distance of the kernel's taps.
        activation: φ.
        start: what weights are drawn of. "gained": N(0, 2.2² / fan-in) for features, N(0, 1 /
            fan-in) for gates, which keeps the signal; "glorot": TensorFlow's default, whose outputs
            shrink in every layer.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    activation: Callable[[jax.Array], jax.Array] = nn.elu
    start: Start = "gained"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, I] to [N, ⌈H / stride⌉, ⌈W / stride⌉, features]."""
        y = PlainConv(
            2 * self.features,
            self.kernel_size,
            self.stride,
            "SAME",
            _gained if self.start == "gained" else nn.initializers.glorot_uniform(),
            dilation=self.dilation,
            name="conv",
        )(x)
        a = jax.lax.slice_in_dim(y, 0, self.features, axis=3)
        g = jax.lax.slice_in_dim(y, self.features, 2 * self.features, axis=3)
        return self.activation(a) * nn.sigmoid(g)


def _gained(key: Any, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """A kernel [k, k, I, 2 · features] whose first half is drawn GAIN times as wide."""
    gains = jnp.repeat(jnp.asarray([GAIN, 1.0], dtype), shape[-1] // 2)
    drawn: jax.Array = nn.initializers.variance_scaling(1.0, "fan_in", "normal")(key, shape, dtype)
    return drawn * gains.reshape(1, 1, 1, -1)
