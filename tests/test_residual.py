"""Mirrored, dilated and transposed convolutions, residual blocks, spectral norms."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import applied, compiled, normal, weights_for

from gmsrm_jax.nn.layers import PlainConv
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.residual import ResidualBlock
from gmsrm_jax.nn.spectral import baked, drawn
from gmsrm_jax.nn.transposed import TransposedConv, transposed_conv


def correlated(x: np.ndarray, kernel: np.ndarray, dilation: int) -> np.ndarray:
    """Stride 1 in float64, mirrored outside by what the kernel reaches."""
    reach = dilation * (kernel.shape[0] - 1) // 2
    padded = np.pad(np.float64(x), [(0, 0), (reach,) * 2, (reach,) * 2, (0, 0)], mode="reflect")
    h, w = x.shape[1:3]
    return sum(
        padded[:, i * dilation : i * dilation + h, j * dilation : j * dilation + w] @ kernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )


def instance_normed(x: np.ndarray) -> np.ndarray:
    return (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (1, 1, 1, 2)])
def test_transposed_convolution_is_that_of_lax(shape):
    x, kernel = normal(0, *shape), normal(1, 4, 4, shape[-1], 6)

    def reference(x, kernel):
        return jax.lax.conv_transpose(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    expected = compiled(reference)(x, kernel)
    assert expected.shape == (shape[0], 2 * shape[1], 2 * shape[2], 6)
    np.testing.assert_allclose(compiled(transposed_conv)(x, kernel), expected, atol=1e-5)
    cotangent = normal(2, *expected.shape)
    (found, wanted) = (
        compiled(lambda x, k, g, f=f: jax.vjp(f, x, k)[1](g))(x, kernel, cotangent)
        for f in (transposed_conv, reference)
    )
    for first, second in zip(found, wanted, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)


def test_transposed_layer_adds_a_bias_unless_told_otherwise():
    x = normal(0, 2, 3, 3, 4)
    for use_bias in (True, False):
        layer = TransposedConv(5, use_bias=use_bias)
        weights = weights_for(layer, x)
        assert set(weights) == ({"kernel", "bias"} if use_bias else {"kernel"})
        bias = np.asarray(weights.get("bias", 0.0))
        expected = np.asarray(transposed_conv(x, weights["kernel"])) + bias
        np.testing.assert_allclose(applied(layer, weights, x), expected, atol=1e-5)


@pytest.mark.parametrize(("size", "dilation"), [(7, 1), (3, 1), (3, 2)])
def test_mirrored_convolution(size, dilation):
    x = normal(0, 2, 9, 8, 3)
    pad = dilation * (size - 1) // 2
    layer = PlainConv(4, size, 1, pad, reflect=True, dilation=dilation, use_bias=False)
    weights = weights_for(layer, x)
    assert set(weights) == {"kernel"}
    expected = correlated(x, np.asarray(weights["kernel"]), dilation)
    np.testing.assert_allclose(applied(layer, weights, x), expected, rtol=1e-4, atol=1e-4)


def test_a_mirrored_constant_stays_constant_up_to_the_border():
    layer = PlainConv(4, 7, 1, 3, reflect=True)
    x = np.full((1, 16, 16, 3), 0.7, np.float32)
    y = np.asarray(applied(layer, weights_for(layer, x), x))
    np.testing.assert_allclose(y, np.broadcast_to(y[:, :1, :1], y.shape), atol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
def test_residual_block(use_bias):
    block, x = ResidualBlock(2, use_bias=use_bias), normal(0, 2, 8, 8, 5)
    weights = weights_for(block, x)
    first, second = (
        lambda y, d, p=weights[name]: instance_normed(
            correlated(y, np.asarray(p["kernel"]), d) + np.asarray(p.get("bias", 0.0))
        )
        for name, d in (("first", 2), ("second", 1))
    )
    expected = x + second(np.maximum(first(x, 2), 0.0), 1)
    np.testing.assert_allclose(applied(block, weights, x), expected, rtol=1e-3, atol=1e-3)


class Spectral(nn.Module):
    """A block with spectral norms, inside of another module."""

    spectral: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, update_stats: bool = False) -> jax.Array:
        block = ResidualBlock(1, spectral=self.spectral, name="block")
        return block(x, update_stats=update_stats)


def test_spectral_norms_are_one_when_power_iterations_have_settled():
    x, module = jnp.asarray(normal(0, 1, 6, 6, 8)), Spectral()
    variables: Any = drawn(module, jax.random.key(0), x)
    kernel = np.asarray(variables["params"]["block"]["first"]["kernel"])
    # As drawn: lecun_normal's deviation, not what is left after a division.
    assert np.std(kernel) == pytest.approx(1 / np.sqrt(9 * 8), rel=0.1)

    @compiled
    def renewed(variables):
        _, stats = module.apply(variables, x, update_stats=True, mutable=["batch_stats"])
        return stats

    for _ in range(60):
        variables = {**variables, **renewed(variables)}
    weights = baked(variables)
    for layer in ("first", "second"):
        given = np.asarray(variables["params"]["block"][layer]["kernel"]).reshape(-1, 8)
        found = np.asarray(weights["params"]["block"][layer]["kernel"]).reshape(-1, 8)
        np.testing.assert_allclose(
            found, given / np.linalg.svd(given, compute_uv=False)[0], rtol=2e-3, atol=1e-5
        )
    expected = compiled(module.apply)(variables, x)
    plain = compiled(Spectral(spectral=False).apply)(weights, x)
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-4)


def test_weights_without_spectral_norms_are_baked_as_they_are():
    weights = {"block": {"kernel": normal(0, 3, 3, 2, 2)}}
    assert baked({"params": weights})["params"]["block"]["kernel"] is weights["block"]["kernel"]


def test_hidden_outputs_of_the_patch_discriminator():
    """Leaky after all but the last, no biases on request, and the same logits as a call's."""
    module = PatchDiscriminator((3, 4, 5, 6), use_bias=False)
    grey, edges = jnp.asarray(normal(0, 2, 32, 32, 1)), jnp.asarray(normal(1, 2, 32, 32, 1))
    variables = drawn(module, jax.random.key(0), grey, edges)
    assert {name: set(layer) for name, layer in variables["params"].items()} == {
        f"conv_{k}": {"kernel"} for k in range(5)
    }
    assert variables["params"]["conv_0"]["kernel"].shape == (4, 4, 2, 3)
    outputs = module.apply(variables, grey, edges, update_stats=False, method="outputs")
    shapes = [(2, 16, 16, 3), (2, 8, 8, 4), (2, 4, 4, 5), (2, 3, 3, 6), (2, 2, 2, 1)]
    assert [output.shape for output in outputs] == shapes
    logits = module.apply(variables, jnp.concatenate([grey, edges], -1), update_stats=False)
    np.testing.assert_array_equal(outputs[-1], logits)
    for output in outputs[:4]:
        assert 0.05 < -np.min(output) / np.max(output) < 0.6
