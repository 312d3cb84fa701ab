"""Norms with weights against their formulas in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmsrm_jax.nn.norms import AffineInstanceNorm, batch_norm


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, of_batch: bool) -> jax.Array:
        return batch_norm(x, of_batch, "norm")


@pytest.mark.parametrize(("dtype", "atol"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)])
def test_batch_and_running_statistics(dtype: jnp.dtype, atol: float) -> None:
    rng = np.random.default_rng(0)
    # Far from zero, where a variance of squares minus a square would lose its digits.
    x = jnp.asarray(rng.normal(20, [0.1, 1, 3], (2, 4, 5, 3)), dtype)
    norm = {"norm": {k: jnp.asarray(rng.normal(size=3), jnp.float32) for k in ("scale", "bias")}}
    running = {"norm": {"mean": jnp.full((3,), 19.0), "var": jnp.full((3,), 2.0)}}
    variables = {"params": norm, "batch_stats": running}
    y, moved = Norm().apply(variables, x, True, mutable=["batch_stats"])
    exact = np.asarray(x, np.float64)
    mean, variance = exact.mean((0, 1, 2)), exact.var((0, 1, 2))
    scale, shift = (np.float64(norm["norm"][k]) for k in ("scale", "bias"))
    assert y.dtype == dtype
    expected = (exact - mean) / np.sqrt(variance + 1e-5) * scale + shift
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, atol=atol)
    after = moved["batch_stats"]["norm"]
    np.testing.assert_allclose(after["mean"], 0.9 * 19 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(after["var"], 0.9 * 2 + 0.1 * variance, rtol=1e-4)
    y = Norm().apply(variables, x, False)
    expected = (exact - 19) / np.sqrt(2 + 1e-5) * scale + shift
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, atol=atol)


@pytest.mark.parametrize(("dtype", "atol"), [(jnp.float32, 1e-4), (jnp.bfloat16, 0.05)])
def test_affine_instance_norm(dtype: jnp.dtype, atol: float) -> None:
    """Of each example alone, its epsilon beside a variance that is as small."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(0, [1e-3, 1, 3], (2, 4, 5, 3)), dtype)
    weights = {k: jnp.asarray(rng.normal(size=3), jnp.float32) for k in ("scale", "bias")}
    y = AffineInstanceNorm(1e-6).apply({"params": weights}, x)
    assert y.dtype == dtype
    exact = np.asarray(x, np.float64)
    mean, variance = (f(exact, (1, 2), keepdims=True) for f in (np.mean, np.var))
    normed = (exact - mean) / np.sqrt(variance + 1e-6)
    expected = normed * np.float64(weights["scale"]) + np.float64(weights["bias"])
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, atol=atol)
