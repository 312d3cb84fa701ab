"""Attention between the places of feature maps, as matrix products."""

import jax
import jax.numpy as jnp

_BLOCK = 2048  # queries whose weights for all keys stand in memory at once


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """softmax(q kᵀ) v over all places of the keys, without 1 / √d (Zhang et al., arXiv 1805.08318).

    Goes through the queries in blocks, whose weights are computed again in the backward pass.

    Args:
        queries: q, [N, H, W, D].
        keys: k, [N, h, w, D].
        values: v, [N, h, w, C].

    Returns:
        [N, H, W, C], in the values' format; weights are float32.
    """
    n, height, width, depth = queries.shape
    k, v = (x.reshape(n, -1, x.shape[-1]) for x in (keys, values))

    @jax.checkpoint
    def block(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        logits = jnp.einsum("nqd,nkd->nqk", q, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits, axis=-1)
        return jnp.einsum("nqk,nkc->nqc", weights.astype(v.dtype), v)

    q = queries.reshape(n, height * width, depth)
    parts = [block(q[:, i : i + _BLOCK], k, v) for i in range(0, height * width, _BLOCK)]
    return jnp.concatenate(parts, axis=1).reshape(n, height, width, -1)
