"""The layers every network is made of: equalised weights, modulated convolution, FIR resampling.

All arrays are NHWC, kernels HWIO. The formulas are StyleGAN2's (Karras et al., arXiv 1912.04958),
the attention that of squeeze-and-excitation (Hu et al., arXiv 1709.01507).

Precision. Every parameter is float32. A network has a `dtype`, float32 or bfloat16, and brings its
input to it; from there on each layer keeps feature maps [N, H, W, C] in the format that it is given
and casts its kernel to it. Whatever the `dtype`, float32 are

- sums over pixels, examples and channels: statistics of instance norms, minibatch deviations,
  pooling, and so the gradients of biases and of factors for each channel, which are applied in
  float32 and rounded once;
- what belongs to an example as a whole: codes, styles, demodulation factors, attention factors,
  noise statistics with their exponential; only the discriminator's dense layer is wide enough to be
  worth the short format;
- power iterations and the division by the singular value;
- images and logits, as they leave a network.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

LEAKY_SLOPE = 0.2


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU with slope 0.2 and gain sqrt(2), which keeps the variance of a layer's output."""
    return nn.leaky_relu(x, LEAKY_SLOPE) * float(np.sqrt(2.0))


def rematerialised(block: Any, resolution: int, remat_from: int) -> Any:
    """A block whose inside is computed again in the backward pass, from `remat_from` px on.

    Args:
        block: a module class, or a function of a module and arrays; names stay as they are.
        resolution: of the block's larger feature maps [px].
        remat_from: 0 for never.
    """
    return nn.remat(block) if remat_from and resolution >= remat_from else block


def conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: Sequence[tuple[int, int]] | str = "SAME",
    dilation: int = 1,
) -> jax.Array:
    """Plain convolution: [N, H, W, I] with [kh, kw, I, O] to [N, H', W', O], in x's format."""
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds [O] to [N, H, W, O] or [N, O] in float32; the result has x's format."""
    bias = bias.reshape((1,) * (x.ndim - 1) + bias.shape)
    return (x.astype(jnp.float32) + bias).astype(x.dtype)


def scale_channels(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Multiplies [N, H, W, C] by [N, C] in float32; the result has x's format."""
    return (x.astype(jnp.float32) * factor[:, None, None, :]).astype(x.dtype)


def modulated_conv(
    x: jax.Array, kernel: jax.Array, style: jax.Array, demodulate: bool = True
) -> jax.Array:
    """Convolution whose input channels are scaled per example (StyleGAN2, Eq. 1 and 3).

    With w' = style · kernel, demodulation divides each output channel by
    sqrt(sum over kh, kw, I of w'² + 1e-8). Scaling the activations before one ordinary convolution
    and the outputs after it is the same function, without a kernel per example.

    Args:
        x: [N, H, W, I].
        kernel: [kh, kw, I, O].
        style: float32 [N, I], one factor for each input channel.
        demodulate: bring every output channel back to unit variance.

    Returns:
        [N, H, W, O], stride 1, zero-padded to the same size.
    """
    if style.shape != (x.shape[0], kernel.shape[2]):
        raise ValueError(f"style {style.shape} must be [N, I] = {(x.shape[0], kernel.shape[2])}")
    y = conv(scale_channels(x, style), kernel)
    if not demodulate:
        return y
    power = jnp.einsum(
        "hwio,ni->no",
        jnp.square(kernel),
        jnp.square(style),
        precision=jax.lax.Precision.HIGHEST,
    )
    return scale_channels(y, jax.lax.rsqrt(power + 1e-8))


def _neighbours(x: jax.Array, axis: int, padding: tuple[int, int], count: int) -> list[jax.Array]:
    """Slices of the zero-padded array at offsets 0 … count - 1 along an axis, as long as fits."""
    pads = [(0, 0)] * 4
    pads[axis] = padding
    padded = jnp.pad(x, pads)
    size = padded.shape[axis] - count + 1
    return [jax.lax.slice_in_dim(padded, t, t + size, axis=axis) for t in range(count)]


def _doubled(neighbours: list[jax.Array], axis: int) -> jax.Array:
    """Twice the size along an axis, from each pixel with the one before and the one after it."""
    before, here, after = neighbours
    phases = [0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after]
    shape = list(here.shape)
    shape[axis] *= 2
    return jnp.stack(phases, axis=axis + 1).reshape(shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def fir_filter(x: jax.Array, padding: tuple[int, int]) -> jax.Array:
    """Blurs with outer([1, 3, 3, 1]) / 64 after zero padding: size H to H + sum(padding) - 3.

    The three FIR functions name their own transposes, which are such filters again: one pass over
    the array in every direction, where the transposes of four slices would store four arrays.
    """
    for axis in (1, 2):
        a, b, c, d = _neighbours(x, axis, padding, 4)
        x = 0.125 * (a + d) + 0.375 * (b + c)
    return x


@jax.custom_vjp
def fir_upsample(x: jax.Array) -> jax.Array:
    """Doubles height and width: zero insertion, then the FIR filter with gain 4, padding (2, 1).

    Written by phases: along each axis an even output is (x[i-1] + 3·x[i]) / 4 and an odd one is
    (3·x[i] + x[i+1]) / 4, with zeros outside.
    """
    for axis in (1, 2):
        x = _doubled(_neighbours(x, axis, (1, 1), 3), axis)
    return x


@jax.custom_vjp
def fir_downsample(x: jax.Array) -> jax.Array:
    """Halves height and width: the FIR filter with padding (1, 1), then every second pixel.

    Written by phases: output i is (x[2i-1] + 3·x[2i] + 3·x[2i+1] + x[2i+2]) / 8 along each axis.
    """
    for axis in (1, 2):
        shape = list(x.shape)
        shape[axis : axis + 1] = [shape[axis] // 2, 2]
        even, odd = (jax.lax.index_in_dim(x.reshape(shape), k, axis + 1, False) for k in (0, 1))
        before, _ = _neighbours(odd, axis, (1, 0), 2)
        _, after = _neighbours(even, axis, (0, 1), 2)
        x = 0.125 * (before + after) + 0.375 * (even + odd)
    return x


fir_filter.defvjp(
    lambda x, padding: (fir_filter(x, padding), None),
    lambda padding, _, g: (fir_filter(g, (3 - padding[0], 3 - padding[1])),),
)
fir_upsample.defvjp(lambda x: (fir_upsample(x), None), lambda _, g: (4.0 * fir_downsample(g),))
fir_downsample.defvjp(lambda x: (fir_downsample(x), None), lambda _, g: (0.25 * fir_upsample(g),))


@jax.custom_vjp
def bilinear_upsample(x: jax.Array) -> jax.Array:
    """Doubles height and width bilinearly, half-pixel centres (Eq. 6's up-sampling).

    `fir_upsample` with the outermost pixels repeated outside instead of zeros; `jax.image.resize`
    multiplies by matrices instead.
    """
    for axis in (1, 2):
        first, last = (jax.lax.slice_in_dim(x, k, k + 1, axis=axis) for k in (0, x.shape[axis] - 1))
        padded = jnp.concatenate([first, x, last], axis)
        x = _doubled(_neighbours(padded, axis, (0, 0), 3), axis)
    return x


def _bilinear_transposed(g: jax.Array) -> jax.Array:
    """The transpose of `bilinear_upsample`, in one pass, as `fir_filter` says.

    Input i has 3/4 of outputs 2i and 2i+1, and 1/4 of 2i-1 and 2i+2; outside these are the
    outermost outputs themselves, which have the repeated pixels' share.
    """
    for axis in (1, 2):
        shape = list(g.shape)
        shape[axis : axis + 1] = [shape[axis] // 2, 2]
        even, odd = (jax.lax.index_in_dim(g.reshape(shape), k, axis + 1, False) for k in (0, 1))
        size = even.shape[axis]
        first = jax.lax.slice_in_dim(even, 0, 1, axis=axis)
        last = jax.lax.slice_in_dim(odd, size - 1, size, axis=axis)
        before = jnp.concatenate([first, jax.lax.slice_in_dim(odd, 0, size - 1, axis=axis)], axis)
        after = jnp.concatenate([jax.lax.slice_in_dim(even, 1, size, axis=axis), last], axis)
        g = 0.75 * (even + odd) + 0.25 * (before + after)
    return g


bilinear_upsample.defvjp(
    lambda x: (bilinear_upsample(x), None), lambda _, g: (_bilinear_transposed(g),)
)


def nearest_upsample(x: jax.Array) -> jax.Array:
    """Doubles height and width, each pixel as a 2×2 block: [N, H, W, C] to [N, 2H, 2W, C]."""
    n, h, w, c = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c))
    return blocks.reshape(n, 2 * h, 2 * w, c)


def average_pool(x: jax.Array, size: int) -> jax.Array:
    """Averages [N, H, W, C] to float32 [N, size, size, C]; H and W are multiples of size."""
    n, h, w, c = x.shape
    return x.reshape(n, size, h // size, size, w // size, c).mean((2, 4), dtype=jnp.float32)


def instance_norm(x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """Normalises each channel of each example over its pixels; no affine part."""
    y = x.astype(jnp.float32)
    mean = y.mean((1, 2), keepdims=True)
    variance = jnp.square(y - mean).mean((1, 2), keepdims=True)
    return ((y - mean) * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype)


def minibatch_stddev(x: jax.Array, group_size: int = 4) -> jax.Array:
    """Appends one channel: the standard deviation within a group of examples (StyleGAN2).

    Groups are contiguous, so that a batch split over devices needs no communication. The deviation
    (population, 1e-8 inside the root) is averaged over pixels and channels.

    Args:
        x: [N, H, W, C].
        group_size: at most this many examples in a group; the largest divisor of N is taken.

    Returns:
        [N, H, W, C + 1].
    """
    n, h, w, c = x.shape
    group = next(g for g in range(min(group_size, n), 0, -1) if n % g == 0)
    y = x.astype(jnp.float32).reshape(n // group, group, h, w, c)
    y = jnp.sqrt(jnp.square(y - y.mean(1, keepdims=True)).mean(1) + 1e-8).mean((1, 2, 3))
    y = jnp.broadcast_to(jnp.repeat(y, group)[:, None, None, None], (n, h, w, 1))
    return jnp.concatenate([x, y.astype(x.dtype)], axis=-1)


class PlainConv(nn.Module):
    """Convolution, with zeros or the mirrored picture outside.

    Attributes:
        features: output channels.
        kernel_size: side of the kernel.
        stride: between two outputs.
        pad: pixels added at every side; "SAME" for ⌈size / stride⌉ outputs, the odd one added last.
        kernel_init: initialiser.
        result: format of the output; None for that of the input.
        reflect: what is added mirrors the inside, without repeating the border; else it is zero.
        dilation: distance of the kernel's taps.
        use_bias: add one number to each output channel.
    """

    features: int
    kernel_size: int
    stride: int
    pad: int | Literal["SAME"]
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    result: DTypeLike | None = None
    reflect: bool = False
    dilation: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, I] to [N, H', W', features]."""
        k = self.kernel_size
        pads: Any = self.pad if self.pad == "SAME" else [(self.pad, self.pad)] * 2
        kernel = self.param("kernel", self.kernel_init, (k, k, x.shape[-1], self.features))
        if self.reflect:
            x, pads = jnp.pad(x, [(0, 0), *pads, (0, 0)], mode="reflect"), [(0, 0)] * 2
        y = conv(x, kernel, self.stride, pads, self.dilation)
        y = y.astype(self.result or x.dtype)
        if not self.use_bias:
            return y
        return add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,)))


class Conv(nn.Module):
    """Ordinary convolution, zero padding of (kernel - 1) // 2, He initialisation.

    Attributes:
        features: output channels.
        kernel_size: side of the kernel.
        stride: between two outputs.
        result: format of the output; None for that of the input.
        zero_init: begin with zeros, whatever the input.
        use_bias: add one number to each output channel; an instance norm takes it away again.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    result: DTypeLike | None = None
    zero_init: bool = False
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, I] to [N, H / stride, W / stride, features]."""
        return PlainConv(
            self.features,
            self.kernel_size,
            self.stride,
            (self.kernel_size - 1) // 2,
            nn.initializers.zeros if self.zero_init else nn.initializers.he_normal(),
            self.result,
            use_bias=self.use_bias,
            name="conv",
        )(x)


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation (CA of Eq. 2 and 6): pool, C to max(C // 16, 4), ReLU, C, sigmoid."""

    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Scales the channels of [N, H, W, C] by factors between 0 and 1."""
        channels = x.shape[-1]
        pooled = x.mean((1, 2), dtype=jnp.float32)
        dense = functools.partial(nn.Dense, kernel_init=self.kernel_init)
        y = nn.relu(dense(max(channels // 16, 4), name="squeeze")(pooled))
        return scale_channels(x, nn.sigmoid(dense(channels, name="excite")(y)))


class EqualDense(nn.Module):
    """Dense layer with equalised learning rate: weights ~ N(0, 1) / m, used times m / sqrt(I).

    Attributes:
        features: size of the output.
        lr_multiplier: m, the learning rate of this layer relative to the others.
        bias_init: the bias that the layer starts with.
        zero_init: begin with zero weights.
    """

    features: int
    lr_multiplier: float = 1.0
    bias_init: float = 0.0
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, I] to [N, features], in x's format."""
        m, fan_in = self.lr_multiplier, x.shape[-1]
        init = nn.initializers.zeros if self.zero_init else nn.initializers.normal(1.0 / m)
        kernel = self.param("kernel", init, (fan_in, self.features))
        bias = self.param("bias", nn.initializers.constant(self.bias_init / m), (self.features,))
        return add_bias(x @ (kernel * float(m / np.sqrt(fan_in))).astype(x.dtype), bias * m)


class EqualConv(nn.Module):
    """Convolution with equalised learning rate: weights ~ N(0, 1), used divided by sqrt(fan-in)."""

    features: int
    kernel_size: int = 3
    down: bool = False
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, I] to [N, H, W, features], or to half the size with `down`."""
        k, channels = self.kernel_size, x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(1.0), (k, k, channels, self.features))
        kernel = kernel / float(np.sqrt(k * k * channels))
        if self.down and k == 1:
            x = conv(fir_downsample(x), kernel)
        elif self.down:
            x = conv(fir_filter(x, (2, 2)), kernel, stride=2, padding="VALID")
        else:
            x = conv(x, kernel)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            x = add_bias(x, bias)
        return x
