"""Partial convolution (Liu et al., arXiv 1804.07723, Eq. 1 and 2): a layer that sees known values.

A mask is one channel, 1 where values are known, whatever the number of channels it stands for. A
layer takes groups of channels, each with its own mask, such as a decoder's features and those of
the encoder beside them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gmsrm_jax.nn.layers import conv


class Known(NamedTuple):
    """Features and where they are known.

    Attributes:
        values: [N, H, W, C]; what stands at unknown places is not looked at.
        mask: float32 [N, H, W, 1], 1 where they are known, 0 elsewhere; a constant to gradients.
    """

    values: jax.Array
    mask: jax.Array


def box_sum(x: jax.Array, size: int, stride: int = 1) -> jax.Array:
    """Sums over size×size windows, zeros outside: [N, H, W, C] to [N, ⌈H/stride⌉, ⌈W/stride⌉, C].

    Args:
        x: to sum.
        size: side of a window, odd; its centre is at every stride-th place.
        stride: between two windows.
    """
    for axis in (1, 2):
        pads = [(0, 0)] * 4
        pads[axis] = (size // 2, size // 2)
        padded, reach = jnp.pad(x, pads), (x.shape[axis] - 1) // stride * stride + 1
        windows = [
            jax.lax.slice_in_dim(padded, t, t + reach, stride, axis=axis) for t in range(size)
        ]
        x = sum(windows[1:], windows[0])
    return x


def dilated(mask: jax.Array) -> jax.Array:
    """A mask [N, H, W, 1] of 0 and 1 grown by one pixel to all eight sides."""
    return (box_sum(mask, 3) >= 0.5).astype(mask.dtype)


def partial_conv(
    groups: Sequence[Known],
    kernel: jax.Array,
    bias: jax.Array | None = None,
    stride: int = 1,
    result: DTypeLike | None = None,
) -> Known:
    """Convolution of the known values, rescaled by the share that is known.

    With X the values of a window, k its mask, n = kh · kw · Σ C_g values in it, of which
    s = Σ_g C_g · box(k_g) are known:

        y = (n / s) · Σ W·(X·k) + b, mask' = 1    where s > 0,
        y = 0,                       mask' = 0    where s = 0.

    Padding is zeros and counts as unknown.

    Args:
        groups: whose channels are concatenated in this order.
        kernel: W, [k, k, Σ C_g, O], k odd.
        bias: b, [O].
        stride: between two outputs.
        result: format of the output's values; None for that of the input.

    Returns:
        Values [N, ⌈H / stride⌉, ⌈W / stride⌉, O] and their mask.
    """
    size = kernel.shape[0]
    masks = [jax.lax.stop_gradient(group.mask) for group in groups]
    # X·k, [N, H, W, Σ C_g]
    x = jnp.concatenate(
        [g.values * k.astype(g.values.dtype) for g, k in zip(groups, masks, strict=True)], axis=-1
    )
    # Σ_g C_g · k_g, [N, H, W, 1]: the sum over channels, before the one over the window.
    channels = sum(
        (g.values.shape[-1] * k for g, k in zip(groups[1:], masks[1:], strict=True)),
        groups[0].values.shape[-1] * masks[0],
    )
    s = box_sum(channels, size, stride)
    mask = (s >= 0.5).astype(jnp.float32)
    y = conv(x, kernel, stride, [(size // 2, size // 2)] * 2)
    y = y.astype(jnp.float32) * (size * size * x.shape[-1] / jnp.maximum(s, 1.0))
    if bias is not None:
        y = y + bias.reshape(1, 1, 1, -1)
    return Known((y * mask).astype(result or x.dtype), mask)


class PartialConv(nn.Module):
    """`partial_conv` as a layer.

    Attributes:
        features: output channels.
        kernel_size: side of the kernel, odd.
        stride: between two outputs.
        use_bias: add a bias, which begins with zeros.
        result: format of the output's values; None for that of the input.
        kernel_init: initialiser.
    """

    features: int
    kernel_size: int
    stride: int = 1
    use_bias: bool = False
    result: DTypeLike | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, *groups: Known) -> Known:
        """Maps groups of known values to known values, as `partial_conv`."""
        inputs = sum(group.values.shape[-1] for group in groups)
        shape = (self.kernel_size, self.kernel_size, inputs, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return partial_conv(groups, kernel, bias, self.stride, self.result)
