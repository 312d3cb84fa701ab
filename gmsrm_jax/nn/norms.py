"""Norms with weights: batch norm (arXiv 1502.03167) and affine instance norm (arXiv 1607.08022)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gmsrm_jax.nn.layers import instance_norm


def batch_norm(x: jax.Array, of_batch: bool, name: str) -> jax.Array:
    """Batch norm of each channel, γ · (x - μ) / sqrt(σ² + 1e-5) + β; a submodule of who calls.

    μ and σ² (the population's) are over examples and pixels of the batch, or the running ones of
    "batch_stats", which follow the batch's from the first step on: r ← 0.9 · r + 0.1 · batch. Sums
    are float32. A batch over several devices is one batch; each micro-batch is one of its own.

    Args:
        x: [N, H, W, C].
        of_batch: normalise by the batch's statistics and move the running ones, which must be
            mutable; else by the running ones.
        name: of the submodule.

    Returns:
        [N, H, W, C] in x's format.
    """
    return nn.BatchNorm(
        use_running_average=not of_batch,
        momentum=0.9,
        epsilon=1e-5,
        dtype=x.dtype,
        use_fast_variance=False,
        name=name,
    )(x)


class AffineInstanceNorm(nn.Module):
    """γ · (x - μ) / sqrt(σ² + ε) + β over the pixels of each example, γ and β for each channel.

    Attributes:
        epsilon: ε.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises [N, H, W, C], which keeps its format; sums are float32."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)[None, None, None, :]
        bias = self.param("bias", nn.initializers.zeros, shape)[None, None, None, :]
        y = instance_norm(x.astype(jnp.float32), self.epsilon)
        return (y * scale + bias).astype(x.dtype)
