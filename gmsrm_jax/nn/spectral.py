"""Spectral norms (Miyato et al., arXiv 1802.05957), and how a trained network does without them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def spectral(layer: nn.Module, x: jax.Array, *, update_stats: bool) -> jax.Array:
    """Applies a layer whose kernels are divided by their largest singular value.

    Each kernel counts as the matrix [-1, O]; one power iteration a call, from vectors in
    "batch_stats". To be called where the layer is made, in a compact method.

    Args:
        layer: with parameters of its own, and a name.
        x: its input.
        update_stats: store the vectors that the power iteration gives.
    """
    return nn.SpectralNorm(layer, name=f"norm_{layer.name}")(x, update_stats=update_stats)


def drawn(module: nn.Module, key: jax.Array, *inputs: Any) -> dict[str, Any]:
    """First variables of a discriminator, its kernels as their initialiser draws them.

    With spectral norms flax keeps kernels divided by their singular value when it initialises,
    which changes what a learning rate means.

    Args:
        module: with a field `spectral` that switches such norms off, if it has any.
        key: random key.
        inputs: of the module.
    """
    with_vectors = module.init(key, *inputs, update_stats=False)
    if not getattr(module, "spectral", False):
        return dict(with_vectors)
    weights = module.clone(spectral=False).init(key, *inputs, update_stats=False)
    return {**with_vectors, **weights}


def baked(variables: dict[str, Any]) -> dict[str, Any]:
    """Weights that do without spectral norms: each kernel divided as `spectral` divides it.

    Args:
        variables: "params", and "batch_stats" if some of its layers go through `spectral`.

    Returns:
        {"params": …} of the same network without spectral norms.
    """

    def walk(params: dict[str, Any], stats: dict[str, Any]) -> dict[str, Any]:
        walked = dict(params)
        for name, below in stats.items():
            layer = name.removeprefix("norm_")
            if layer == name:
                walked[name] = walk(params[name], below)
            else:
                u = below[f"{layer}/kernel/u"]
                walked[layer] = {**params[layer], "kernel": _normalised(params[layer]["kernel"], u)}
        return walked

    return {"params": walk(variables["params"], variables.get("batch_stats", {}))}


def _normalised(kernel: jax.Array, u: jax.Array) -> jax.Array:
    """W / σ with σ = v W uᵀ after one power iteration from u [1, O], as flax takes it."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    with jax.default_matmul_precision("highest"):
        v = _unit(u @ matrix.T)
        sigma = v @ matrix @ _unit(v @ matrix).T
    return kernel / jnp.where(sigma != 0.0, sigma, 1.0).reshape(())


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.square(x).sum() + 1e-12)
