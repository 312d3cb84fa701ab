"""MEDFE's feature equalisation: channels by squeeze-and-excitation, places by bilateral sums."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gmsrm_jax.nn.layers import LEAKY_SLOPE, ChannelAttention, PlainConv, instance_norm

INIT = nn.initializers.normal(0.02)
SIGMA = 1.5  # of the Gaussian over places


def by_distance(x: jax.Array, sigma: float = SIGMA) -> jax.Array:
    """A_p = Σ_q w_pq X_q over all places q, w ∝ exp(-‖p - q‖² / 2σ²) with Σ_q w_pq = 1.

    As two products with matrices, K X Kᵀ: the weights are separable, and so is their sum.

    Args:
        x: X, [N, H, W, C].
        sigma: σ.
    """
    for axis in (1, 2):
        places = np.arange(x.shape[axis])
        weights = np.exp(-0.5 * np.square((places[:, None] - places) / sigma))
        kernel = jnp.asarray(weights / weights.sum(1, keepdims=True), x.dtype)
        x = jnp.moveaxis(jnp.tensordot(kernel, x, (1, axis)), 0, axis)
    return x


def by_similarity(x: jax.Array) -> jax.Array:
    """B_p = Σ_o v_po X_{p+o} over a 3×3 window, v the softmax of mean_c s_p · s_{p+o}, s = σ(X).

    Outside of the map X and s are 0, and keep their weight exp(0).

    Args:
        x: X, [N, H, W, C].
    """
    _, height, width, _ = x.shape
    pads = [(0, 0), (1, 1), (1, 1), (0, 0)]
    places = [(i, j) for i in range(3) for j in range(3)]

    def around(y: jax.Array) -> list[jax.Array]:
        padded = jnp.pad(y, pads)
        return [padded[:, i : i + height, j : j + width] for i, j in places]

    s = nn.sigmoid(x)
    likeness = jnp.stack([(s * other).mean(-1) for other in around(s)], axis=-1)
    weights = nn.softmax(likeness, axis=-1)
    terms = [weights[..., k : k + 1] * other for k, other in enumerate(around(x))]
    return sum(terms[1:], terms[0])


def as_released(x: jax.Array) -> jax.Array:
    """The released code's layout: numbers in the order [H, W, C] taken for ones in [C, H, W]."""
    n, h, w, c = x.shape
    return x.reshape(n, h * w * c).reshape(n, c, h, w).transpose(0, 2, 3, 1)


class Equalisation(nn.Module):
    """LeakyReLU(IN(1×1 conv([A, B]))), A and B of features whose channels are weighted before.

    Attributes:
        released_layout: A and B go through `as_released`, which mixes places up.
    """

    released_layout: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to the same shape; bilateral sums are float32."""
        weighted = ChannelAttention(INIT, name="channels")(x).astype(jnp.float32)
        maps = [by_distance(weighted), by_similarity(weighted)]
        if self.released_layout:
            maps = [as_released(y) for y in maps]
        y = jnp.concatenate(maps, axis=-1).astype(x.dtype)
        y = PlainConv(x.shape[-1], 1, 1, 0, INIT, use_bias=False, name="conv")(y)
        return nn.leaky_relu(instance_norm(y), LEAKY_SLOPE)
