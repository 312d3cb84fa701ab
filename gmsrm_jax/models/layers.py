"""The layers every network is made of: equalised weights, modulated convolution, FIR resampling.

All arrays are NHWC, kernels HWIO. The formulas are StyleGAN2's (Karras et al., arXiv 1912.04958),
the attention that of squeeze-and-excitation (Hu et al., arXiv 1709.01507).
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

LEAKY_SLOPE = 0.2


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU with slope 0.2 and gain sqrt(2), which keeps the variance of a layer's output."""
    return nn.leaky_relu(x, LEAKY_SLOPE) * np.float32(np.sqrt(2.0))


def conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: Sequence[tuple[int, int]] | str = "SAME",
) -> jax.Array:
    """Plain convolution: [N, H, W, I] with [kh, kw, I, O] to [N, H', W', O]."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


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
        style: [N, I], one factor for each input channel.
        demodulate: bring every output channel back to unit variance.

    Returns:
        [N, H, W, O], stride 1, zero-padded to the same size.
    """
    if style.shape != (x.shape[0], kernel.shape[2]):
        raise ValueError(f"style {style.shape} must be [N, I] = {(x.shape[0], kernel.shape[2])}")
    y = conv(x * style[:, None, None, :], kernel)
    if not demodulate:
        return y
    power = jnp.einsum(
        "hwio,ni->no",
        jnp.square(kernel),
        jnp.square(style),
        precision=jax.lax.Precision.HIGHEST,
    )
    return y * jax.lax.rsqrt(power + 1e-8)[:, None, None, :]


def _neighbours(x: jax.Array, axis: int, padding: tuple[int, int], count: int) -> list[jax.Array]:
    """Slices of the zero-padded array at offsets 0 … count - 1 along an axis, as long as fits."""
    pads = [(0, 0)] * 4
    pads[axis] = padding
    padded = jnp.pad(x, pads)
    size = padded.shape[axis] - count + 1
    return [jax.lax.slice_in_dim(padded, t, t + size, axis=axis) for t in range(count)]


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
        before, here, after = _neighbours(x, axis, (1, 1), 3)
        phases = [0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after]
        shape = list(x.shape)
        shape[axis] *= 2
        x = jnp.stack(phases, axis=axis + 1).reshape(shape)
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


def bilinear_upsample(x: jax.Array) -> jax.Array:
    """Doubles height and width bilinearly, half-pixel centres (Eq. 6's up-sampling)."""
    n, h, w, c = x.shape
    return jax.image.resize(x, (n, 2 * h, 2 * w, c), "bilinear")


def average_pool(x: jax.Array, size: int) -> jax.Array:
    """Averages [N, H, W, C] down to a [N, size, size, C] grid; H and W are multiples of size."""
    n, h, w, c = x.shape
    return x.reshape(n, size, h // size, size, w // size, c).mean((2, 4))


def instance_norm(x: jax.Array) -> jax.Array:
    """Normalises each channel of each example over its pixels; no affine part, epsilon 1e-5."""
    mean = x.mean((1, 2), keepdims=True)
    variance = jnp.square(x - mean).mean((1, 2), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5)


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
    y = x.reshape(n // group, group, h, w, c)
    y = jnp.sqrt(jnp.square(y - y.mean(1, keepdims=True)).mean(1) + 1e-8).mean((1, 2, 3))
    y = jnp.repeat(y, group)[:, None, None, None]
    return jnp.concatenate([x, jnp.broadcast_to(y, (n, h, w, 1))], axis=-1)


class Conv(nn.Module):
    """Ordinary convolution with bias, zero padding of (kernel - 1) // 2, He initialisation."""

    features: int
    kernel_size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, I] to [N, H / stride, W / stride, features]."""
        k = self.kernel_size
        pad = (k - 1) // 2
        return nn.Conv(
            self.features,
            (k, k),
            (self.stride, self.stride),
            [(pad, pad)] * 2,
            kernel_init=nn.initializers.he_normal(),
            name="conv",
        )(x)


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation (CA of Eq. 2 and 6): pool, C to max(C // 16, 4), ReLU, C, sigmoid."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Scales the channels of [N, H, W, C] by factors between 0 and 1."""
        channels = x.shape[-1]
        y = nn.relu(nn.Dense(max(channels // 16, 4), name="squeeze")(x.mean((1, 2))))
        y = nn.sigmoid(nn.Dense(channels, name="excite")(y))
        return x * y[:, None, None, :]


class EqualDense(nn.Module):
    """Dense layer with equalised learning rate: weights ~ N(0, 1) / m, used times m / sqrt(I).

    Attributes:
        features: size of the output.
        lr_multiplier: m, the learning rate of this layer relative to the others.
        bias_init: the bias that the layer starts with.
    """

    features: int
    lr_multiplier: float = 1.0
    bias_init: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, I] to [N, features]."""
        m, fan_in = self.lr_multiplier, x.shape[-1]
        init = nn.initializers.normal(1.0 / m)
        kernel = self.param("kernel", init, (fan_in, self.features))
        bias = self.param("bias", nn.initializers.constant(self.bias_init / m), (self.features,))
        return x @ (kernel * float(m / np.sqrt(fan_in))) + (bias * m)[None, :]


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
            x = x + bias[None, None, None, :]
        return x
