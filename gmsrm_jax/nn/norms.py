"""Batch normalisation (Ioffe and Szegedy, arXiv 1502.03167)."""

import flax.linen as nn
import jax


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
