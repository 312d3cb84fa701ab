"""The layers against float64 loops in NumPy that share no code with them."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import compiled

from gmsrm_jax.nn import layers


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def run(function: Callable[..., Any], *arrays: Any, **static: Any) -> Any:
    """Calls it as one compiled program, on float32."""
    single = jax.tree.map(lambda a: a if isinstance(a, jax.Array) else jnp.float32(a), arrays)
    return compiled(functools.partial(function, **static))(*single)


def weights_for(module: nn.Module, x: np.ndarray) -> dict[str, Any]:
    """N(0, 1) in the place of each of a module's parameters."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.float32(x))["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)


def correlate(x: np.ndarray, kernel: np.ndarray, stride: int, pads: tuple[int, int]) -> np.ndarray:
    """Correlation of [N, H, W, I] with [kh, kw, I, O], window by window."""
    x = np.pad(x, ((0, 0), pads, pads, (0, 0)))
    kh, kw = kernel.shape[:2]
    rows, columns = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    y = np.zeros((x.shape[0], rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + kh, j * stride : j * stride + kw]
            y[:, i, j] = np.einsum("nhwi,hwio->no", window, kernel)
    return y


def modulated(x: np.ndarray, kernel: np.ndarray, style: np.ndarray, demodulate: bool) -> np.ndarray:
    """StyleGAN2's Eq. 1 and 3 as printed: a kernel for each example."""
    outputs = []
    for image, factors in zip(x, style, strict=True):
        own = kernel * factors[None, None, :, None]
        if demodulate:
            own = own / np.sqrt(np.square(own).sum((0, 1, 2)) + 1e-8)
        pad = (kernel.shape[0] - 1) // 2
        outputs.append(correlate(image[None], own, 1, (pad, pad)))
    return np.concatenate(outputs)


def fir(
    x: np.ndarray, up: int = 1, down: int = 1, pads: tuple[int, int] = (0, 0), gain: float = 1.0
) -> np.ndarray:
    """Zero insertion, padding, correlation with outer([1, 3, 3, 1]) / 64, decimation."""
    n, h, w, c = x.shape
    spread = np.zeros((n, h * up, w * up, c))
    spread[:, ::up, ::up] = x
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64 * gain
    planes = [
        correlate(spread[..., k : k + 1], taps[:, :, None, None], down, pads) for k in range(c)
    ]
    return np.concatenate(planes, axis=-1)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("side", [1, 3])
def test_modulated_conv_is_a_convolution_with_one_kernel_per_example(side, demodulate):
    x, kernel, style = normal(0, 3, 6, 5, 4), normal(1, side, side, 4, 7), normal(2, 3, 4)
    got = run(layers.modulated_conv, x, kernel, style, demodulate=demodulate)
    np.testing.assert_allclose(got, modulated(x, kernel, style, demodulate), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_conv_has_the_gradient_of_that_convolution(demodulate):
    inputs = [normal(3, 2, 4, 4, 3), normal(4, 3, 3, 3, 2), normal(5, 2, 3)]
    weights = normal(6, 2, 4, 4, 2)

    def loss(x, kernel, style):
        y = layers.modulated_conv(x, kernel, style, demodulate)
        return (y * weights.astype(np.float32)).sum()

    gradients = run(jax.grad(loss, argnums=(0, 1, 2)), *inputs)
    step = 1e-6
    for place, gradient in enumerate(gradients):
        expected = np.zeros(inputs[place].shape)
        for index in np.ndindex(*expected.shape):
            sides = []
            for sign in (1, -1):
                moved = [i.copy() for i in inputs]
                moved[place][index] += sign * step
                sides.append((modulated(*moved, demodulate) * weights).sum())
            expected[index] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_demodulation_brings_outputs_to_unit_variance_whatever_the_style():
    x, kernel = normal(7, 2, 32, 32, 16), 5 * normal(8, 3, 3, 16, 8)
    style = np.stack([np.full(16, 0.01), np.full(16, 100.0)])
    y = run(layers.modulated_conv, x, kernel, style)
    # Without the frame: there the zero padding takes a part of the window away.
    deviation = np.asarray(y)[:, 1:-1, 1:-1].std((1, 2))
    np.testing.assert_allclose(deviation, 1.0, atol=0.2)


def test_modulated_conv_refuses_a_style_of_another_size():
    with pytest.raises(ValueError, match=r"style \(2, 5\)"):
        layers.modulated_conv(jnp.zeros((2, 4, 4, 3)), jnp.zeros((3, 3, 3, 2)), jnp.zeros((2, 5)))


@pytest.mark.parametrize("pads", [(1, 1), (2, 2), (2, 1), (0, 3)])
def test_fir_filter(pads):
    x = normal(9, 2, 7, 6, 3)
    got = run(layers.fir_filter, x, padding=pads)
    np.testing.assert_allclose(got, fir(x, pads=pads), atol=1e-5)


def test_fir_upsample_is_zero_insertion_and_a_filter_of_gain_four():
    x = normal(10, 2, 5, 8, 3)
    got = run(layers.fir_upsample, x)
    assert got.shape == (2, 10, 16, 3)
    np.testing.assert_allclose(got, fir(x, up=2, pads=(2, 1), gain=4.0), atol=1e-5)


def test_fir_downsample_is_a_filter_and_every_second_pixel():
    x = normal(11, 2, 8, 12, 3)
    got = run(layers.fir_downsample, x)
    assert got.shape == (2, 4, 6, 3)
    np.testing.assert_allclose(got, fir(x, down=2, pads=(1, 1)), atol=1e-5)


@pytest.mark.parametrize(
    ("function", "settings", "static"),
    [
        (layers.fir_filter, {"pads": (2, 1)}, {"padding": (2, 1)}),
        (layers.fir_filter, {"pads": (2, 2)}, {"padding": (2, 2)}),
        (layers.fir_upsample, {"up": 2, "pads": (2, 1), "gain": 4.0}, {}),
        (layers.fir_downsample, {"down": 2, "pads": (1, 1)}, {}),
    ],
    ids=["filter", "filter_for_down", "upsample", "downsample"],
)
def test_fir_gradients_are_transposes_of_first_and_second_order(function, settings, static):
    shape = (1, 4, 6, 1)
    matrix = []
    for pixel in range(24):
        basis = np.zeros(24)
        basis[pixel] = 1.0
        matrix.append(fir(basis.reshape(shape), **settings))
    transpose = np.stack(matrix).reshape(24, -1)
    weights = normal(22, *matrix[0].shape)

    def pulled(g, x):
        return jax.vjp(functools.partial(function, **static), x)[1](g)[0]

    x = normal(23, *shape)
    first = run(pulled, weights, x)
    np.testing.assert_allclose(np.ravel(first), transpose @ weights.ravel(), rtol=1e-4, atol=1e-5)
    # The gradient of half the square of that, as R1 and path length take it.
    second = run(jax.grad(lambda g, x: 0.5 * jnp.square(pulled(g, x)).sum()), weights, x)
    expected = transpose.T @ (transpose @ weights.ravel())
    np.testing.assert_allclose(np.ravel(second), expected, rtol=1e-4, atol=1e-5)


def half_pixel_lines(values: np.ndarray, axis: int) -> np.ndarray:
    """Twice as many values along an axis, linear between centres, constant outside them."""
    size = values.shape[axis]
    at = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, size - 1)
    part = (at - low).reshape([-1 if k == axis else 1 for k in range(4)])
    return values.take(low, axis) * (1 - part) + values.take(high, axis) * part


def test_bilinear_upsample_has_half_pixel_centres():
    x = normal(12, 2, 4, 6, 3)
    got = run(layers.bilinear_upsample, x)
    np.testing.assert_allclose(got, half_pixel_lines(half_pixel_lines(x, 1), 2), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 4, 6, 1), (1, 1, 3, 1)])
def test_bilinear_gradient_is_the_transpose(shape):
    count = int(np.prod(shape))
    basis = np.eye(count).reshape(count, *shape[1:])
    transpose = half_pixel_lines(half_pixel_lines(basis, 1), 2).reshape(count, -1)
    weights = normal(24, 1, 2 * shape[1], 2 * shape[2], 1)

    def pulled(g, x):
        return jax.vjp(layers.bilinear_upsample, x)[1](g)[0]

    got = run(pulled, weights, normal(25, *shape))
    np.testing.assert_allclose(np.ravel(got), transpose @ weights.ravel(), rtol=1e-5, atol=1e-6)


def test_average_pool_takes_the_mean_of_each_cell():
    x = normal(13, 2, 8, 16, 3)
    got = run(layers.average_pool, x, size=4)
    for i in range(4):
        for j in range(4):
            cell = x[:, 2 * i : 2 * i + 2, 4 * j : 4 * j + 4].mean((1, 2))
            np.testing.assert_allclose(got[:, i, j], cell, atol=1e-5)


def test_instance_norm_normalises_each_channel_of_each_example():
    x = normal(14, 3, 5, 7, 4) * [1.0, 10.0, 0.01, 1.0] + [0.0, 3.0, 1.0, -2.0]
    x[1, :, :, 3] = 0.25
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    got = np.asarray(run(layers.instance_norm, x))
    np.testing.assert_allclose(got, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-3, atol=1e-4)
    assert np.all(got[1, :, :, 3] == 0.0)


@pytest.mark.parametrize(("batch", "group"), [(8, 4), (6, 3), (4, 4), (3, 3), (5, 1), (1, 1)])
def test_minibatch_stddev_is_taken_within_contiguous_groups(batch, group):
    x = normal(15, batch, 4, 4, 5)
    got = np.asarray(run(layers.minibatch_stddev, x))
    np.testing.assert_array_equal(got[..., :5], x.astype(np.float32))
    for start in range(0, batch, group):
        members = x[start : start + group]
        spread = np.sqrt(np.square(members - members.mean(0)).mean(0) + 1e-8).mean()
        np.testing.assert_allclose(got[start : start + group, :, :, 5], spread, rtol=1e-4)


def test_leaky_relu_has_slope_a_fifth_and_keeps_the_second_moment():
    x = normal(16, 100_000)
    got = np.asarray(run(layers.leaky_relu, x))
    np.testing.assert_allclose(got, np.where(x > 0, x, 0.2 * x) * np.sqrt(2), rtol=1e-5)
    np.testing.assert_allclose(np.square(got).mean(), 1.04, atol=0.02)


@pytest.mark.parametrize(("multiplier", "bias"), [(1.0, 1.0), (0.01, 0.5)])
def test_equal_dense_stores_unit_weights_and_has_unit_variance(multiplier, bias):
    module = layers.EqualDense(300, lr_multiplier=multiplier, bias_init=bias)
    x = normal(17, 500, 200)
    params = run(module.init, jax.random.key(0), x)["params"]
    np.testing.assert_allclose(np.std(params["kernel"]) * multiplier, 1.0, rtol=0.02)
    y = np.asarray(run(module.apply, {"params": params}, x))
    kernel = np.asarray(params["kernel"], np.float64) * multiplier / np.sqrt(200)
    np.testing.assert_allclose(y, x @ kernel + bias, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(y.var(), 1.0, rtol=0.03)
    np.testing.assert_allclose(y.mean(), bias, atol=0.03)


@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("down", [False, True])
def test_equal_conv_filters_before_it_takes_every_second_pixel(side, down):
    module = layers.EqualConv(4, side, down=down)
    x = normal(18, 2, 8, 8, 3)
    params = weights_for(module, x)
    kernel = np.asarray(params["kernel"], np.float64) / np.sqrt(side * side * 3)
    if not down:
        expected = correlate(x, kernel, 1, (side // 2, side // 2))
    elif side == 1:
        expected = correlate(fir(x, down=2, pads=(1, 1)), kernel, 1, (0, 0))
    else:
        expected = correlate(fir(x, pads=(2, 2)), kernel, 2, (0, 0))
    got = run(module.apply, {"params": params}, x)
    assert got.shape == ((2, 4, 4, 4) if down else (2, 8, 8, 4))
    np.testing.assert_allclose(got, expected + params["bias"], rtol=1e-4, atol=2e-5)


def test_equal_conv_stores_unit_weights_and_has_unit_variance():
    module = layers.EqualConv(64, use_bias=False)
    x = normal(19, 4, 34, 34, 32)
    params = run(module.init, jax.random.key(2), x)["params"]
    assert set(params) == {"kernel"}
    np.testing.assert_allclose(np.std(params["kernel"]), 1.0, rtol=0.02)
    y = np.asarray(run(module.apply, {"params": params}, x))[:, 1:-1, 1:-1]
    np.testing.assert_allclose(y.var(), 1.0, rtol=0.05)


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_conv_pads_with_zeros(side, stride):
    module = layers.Conv(5, side, stride)
    x = normal(20, 2, 8, 8, 3)
    params = weights_for(module, x)
    kernel, bias = (np.asarray(params["conv"][part], np.float64) for part in ("kernel", "bias"))
    got = run(module.apply, {"params": params}, x)
    assert got.shape == (2, 8 // stride, 8 // stride, 5)
    expected = correlate(x, kernel, stride, (side // 2, side // 2)) + bias
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_conv_starts_in_hes_way():
    params = run(layers.Conv(48).init, jax.random.key(3), normal(20, 1, 4, 4, 32))["params"]
    np.testing.assert_allclose(np.var(params["conv"]["kernel"]), 2 / (9 * 32), rtol=0.05)
    assert not np.any(params["conv"]["bias"])


@pytest.mark.parametrize(("channels", "width"), [(16, 4), (128, 8)])
def test_channel_attention_squeezes_and_excites(channels, width):
    module = layers.ChannelAttention()
    x = normal(21, 3, 4, 5, channels)
    params = weights_for(module, x)
    squeeze, excite = (
        [np.asarray(params[name][part], np.float64) for part in ("kernel", "bias")]
        for name in ("squeeze", "excite")
    )
    assert squeeze[0].shape == (channels, width)
    hidden = np.maximum(x.mean((1, 2)) @ squeeze[0] + squeeze[1], 0.0)
    factors = 1 / (1 + np.exp(-(hidden @ excite[0] + excite[1])))
    got = run(module.apply, {"params": params}, x)
    np.testing.assert_allclose(got, x * factors[:, None, None, :], rtol=1e-4, atol=1e-5)


def test_nearest_upsample_repeats_pixels():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = np.repeat(np.repeat(x, 2, 1), 2, 2)
    np.testing.assert_array_equal(layers.nearest_upsample(jnp.asarray(x)), expected)
