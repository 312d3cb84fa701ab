"""The networks of LBAM: a U-Net between two chains of masks, and a critic of two columns.

A chain of convolutions runs over the known mask and gives the encoder's attention maps; another one
runs over the hole mask and gives the decoder's, so that the encoder looks at what is known and the
decoder at the hole.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from gmsrm_jax.methods.lbam.maps import EXPONENT, AttentionMap, next_mask
from gmsrm_jax.nn.layers import LEAKY_SLOPE, PlainConv
from gmsrm_jax.nn.norms import batch_norm
from gmsrm_jax.nn.transposed import TransposedConv

Start = Literal["normal", "positive"]
Numbers = tuple[float, float, float, float]
INIT = nn.initializers.normal(0.02)
# PyTorch's default for a transposed convolution.
_OUTPUT_INIT = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


class LBAMNetwork(nn.Module):
    """The U-Net of L levels; level i works at S / 2^i with C_i = width · min(2^(i-1), 8) channels.

    The paper's Sec. 3.3, with g_A and g_M of `maps`; k is the known mask, m that of the hole:

        encoder    c = conv(x), r = conv(k), x' = leaky(BN(c · g_A(r))), k' = g_M(r); c is the skip
        reverse    r = conv(m), m' = g_M(r)
        decoder    u = transposed conv(x), x' = leaky(BN([c, u] · [g_A(r forward), g_A(r reverse)]))

    Attributes:
        levels: L, at most log2(S).
        width: C_1.
        normed: batch norms behind all products but that of level 1.
        start: "normal": all kernels N(0, 0.02); "positive": the masks' are such that a whole window
            responds with its map's μ, and the others keep the signal without batch norms.
        forward_map: first a, μ, γ_l, γ_r of the encoder's maps.
        reverse_map: those of the decoder's.
        dtype: format of feature maps, see `layers`.
    """

    levels: int
    width: int
    normed: bool = True
    start: Start = "normal"
    forward_map: Numbers = (1.1, 2.0, 1.0, 1.0)
    reverse_map: Numbers = (1.1, 1.0, 0.5, 0.5)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array, of_batch: bool = False) -> jax.Array:
        """Predicts the picture.

        Args:
            image: [N, S, S, 3] in [0, 1]; its hole is not looked at.
            mask: [N, S, S, 1], 1 in the hole.
            of_batch: batch norms take the batch's statistics and move "batch_stats".

        Returns:
            float32 [N, S, S, 3] in [-1, 1].
        """
        known = 1.0 - mask
        x = jnp.concatenate([image * known, known], axis=-1).astype(self.dtype)
        k, m = (jnp.repeat(plane, 3, axis=-1).astype(self.dtype) for plane in (known, mask))
        skips, maps, channels = [], [], [self.width * min(1 << i, 8) for i in range(self.levels)]
        for i, count in enumerate(channels, start=1):
            # c, k' and the map: [N, S / 2^i, ·, C_i]
            c = PlainConv(count, 4, 2, 1, self._init(), use_bias=False, name=f"encoder_{i}")(x)
            k, forward = self._masked("forward", i, count, k, self.forward_map)
            if i < self.levels:
                m, reverse = self._masked("reverse", i, count, m, self.reverse_map)
                skips.append(c)
                maps.append((forward, reverse))
            x = self._activated(c * forward, f"encoder_norm_{i}" if i > 1 else "", of_batch)
        for i in reversed(range(1, self.levels)):
            # u: [N, S / 2^i, ·, C_i]; joined with the skip twice as many channels
            u = TransposedConv(channels[i - 1], self._init(), False, name=f"decoder_{i + 1}")(x)
            y = jnp.concatenate([skips.pop(), u], axis=-1) * jnp.concatenate(maps.pop(), axis=-1)
            x = self._activated(y, f"decoder_norm_{i + 1}", of_batch)
        last = TransposedConv(3, _OUTPUT_INIT, False, name="decoder_1")
        return nn.tanh(last(x).astype(jnp.float32))

    def _masked(
        self, chain: str, i: int, count: int, mask: jax.Array, numbers: Numbers
    ) -> tuple[jax.Array, jax.Array]:
        """A level of a chain of masks: the next mask, and the attention map."""
        init = self._init()
        if self.start == "positive":
            init = _responding(numbers[1], 1.0 if i == 1 else numbers[1] ** EXPONENT)
        r = PlainConv(count, 4, 2, 1, init, use_bias=False, name=f"{chain}_{i}")(mask)
        return next_mask(r), AttentionMap(numbers, name=f"{chain}_map_{i}")(r)

    def _activated(self, x: jax.Array, norm: str, of_batch: bool) -> jax.Array:
        if self.normed and norm:
            x = batch_norm(x, of_batch, norm)
        return nn.leaky_relu(x, LEAKY_SLOPE)

    def _init(self) -> nn.initializers.Initializer:
        return INIT if self.start == "normal" else nn.initializers.he_normal()


def _responding(response: float, mask: float) -> nn.initializers.Initializer:
    """Kernels near one number, with which a window full of `mask` gives about `response`."""

    def init(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        mean = response / (float(np.prod(shape[:-1])) * mask)
        return mean * (1.0 + 0.2 * jax.random.normal(key, shape, dtype))

    return init


class Critic(nn.Module):
    """Two columns of 4×4 convolutions, one sees the known part, one the hole; one number a picture.

    Attributes:
        width: channels of the first layer; they double up to eight times as many.
        released: the authors' code: batch norms behind all layers but a column's first, which make
            a picture's gradient depend on the others, and a sigmoid at the end.
        dtype: format of feature maps, see `layers`.
    """

    width: int
    released: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array, *, update_stats: bool) -> jax.Array:
        """Judges whole pictures.

        Args:
            image: [N, S, S, 3] in [0, 1], S a power of two from 8 on.
            mask: [N, S, S, 1], 1 in the hole.
            update_stats: batch norms take the batch's statistics and move "batch_stats".

        Returns:
            float32 [N, 1, 1, 1].
        """
        levels = image.shape[1].bit_length() - 3  # to 4×4
        columns = []
        for name, x in (("known", image * (1.0 - mask)), ("hole", image * mask)):
            x = x.astype(self.dtype)
            for i in range(levels):
                layer = PlainConv(self.width * min(1 << i, 8), 4, 2, 1, INIT, name=f"{name}_{i}")
                x = layer(x)
                if self.released and i > 0:
                    x = batch_norm(x, update_stats, f"{name}_norm_{i}")
                x = nn.leaky_relu(x, LEAKY_SLOPE)
            columns.append(x)
        last = PlainConv(1, 4, 1, 0, INIT, result=jnp.float32, name="out")
        logits = last(jnp.concatenate(columns, axis=-1))
        return nn.sigmoid(logits) if self.released else logits
