"""EdgeConnect's two generators, and how they fill together.

G1 (Sec. 3.1) completes the edge map of a picture with a hole, G2 (Sec. 3.2) paints the picture from
its known pixels and a complete edge map. Both see pictures in [0, 1] whose holes are white.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Noise, Variables, apply
from gmsrm_jax.nn.canny import canny, grey
from gmsrm_jax.nn.layers import PlainConv, instance_norm
from gmsrm_jax.nn.residual import ResidualBlock
from gmsrm_jax.nn.spectral import spectral
from gmsrm_jax.nn.transposed import TransposedConv
from gmsrm_jax.runtime.pixels import to_unit

INIT = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """The body of G1 and G2: to a quarter of the size, residual blocks, and back.

    Attributes:
        outputs: channels of the output.
        width: channels at full size; twice as many at half, four times at a quarter of the size.
        blocks: residual blocks, whose first convolution is dilated by 2.
        residual_bias: biases in the residual blocks.
        spectral: divide every kernel but the last by its largest singular value.
        dtype: format of feature maps, see `layers`.
    """

    outputs: int
    width: int
    blocks: int
    residual_bias: bool = True
    spectral: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, update_stats: bool = False) -> jax.Array:
        """Maps [N, S, S, C] to float32 [N, S, S, outputs], before the output's curve.

        Args:
            x: S is a multiple of 4, from 16 on.
            update_stats: store the vectors of the power iterations.
        """

        def block(layer: nn.Module, x: jax.Array) -> jax.Array:
            y = spectral(layer, x, update_stats=update_stats) if self.spectral else layer(x)
            return nn.relu(instance_norm(y))

        w = self.width
        x = x.astype(self.dtype)
        x = block(PlainConv(w, 7, 1, 3, INIT, reflect=True, name="in"), x)  # [N, S, S, w]
        x = block(PlainConv(2 * w, 4, 2, 1, INIT, name="down_half"), x)  # [N, S/2, S/2, 2w]
        x = block(PlainConv(4 * w, 4, 2, 1, INIT, name="down_quarter"), x)  # [N, S/4, S/4, 4w]
        for index in range(self.blocks):
            residual = ResidualBlock(
                2, INIT, self.residual_bias, self.spectral, name=f"residual_{index}"
            )
            x = residual(x, update_stats=update_stats)
        x = block(TransposedConv(2 * w, INIT, name="up_half"), x)
        x = block(TransposedConv(w, INIT, name="up_whole"), x)
        out = PlainConv(self.outputs, 7, 1, 3, INIT, result=jnp.float32, reflect=True, name="out")
        return out(x)


def edge_network(
    config: ConfigDict, dtype: DTypeLike = jnp.float32, *, spectral: bool = False
) -> Generator:
    """G1; `spectral` as it is trained, without it as it fills, with spectral norms baked in."""
    fields = config.edgeconnect
    return Generator(1, fields.width, fields.residual_blocks, False, spectral, dtype)


def picture_network(config: ConfigDict, dtype: DTypeLike = jnp.float32) -> Generator:
    """G2."""
    return Generator(3, config.edgeconnect.width, config.edgeconnect.residual_blocks, dtype=dtype)


def known_edges(config: ConfigDict, image: jax.Array, mask: jax.Array) -> jax.Array:
    """Canny's edges by known pixels alone, none beside or in the hole.

    Args:
        config: with edgeconnect.sigma.
        image: [N, S, S, 3] in [-1, 1].
        mask: [N, S, S, 1], 1 in the hole.

    Returns:
        [N, S, S, 1], 0 or 1.
    """
    return canny(grey(to_unit(image)), config.edgeconnect.sigma, 1.0 - mask)


def true_edges(config: ConfigDict, image: jax.Array) -> jax.Array:
    """Canny's edges of whole pictures [N, S, S, 3] in [-1, 1], as [N, S, S, 1] of 0 and 1."""
    return canny(grey(to_unit(image)), config.edgeconnect.sigma)


def edge_input(image: jax.Array, mask: jax.Array, known: jax.Array) -> jax.Array:
    """What G1 sees, [grey · K + M, known edges, M]: [N, S, S, 3]."""
    return jnp.concatenate([grey(to_unit(image)) * (1.0 - mask) + mask, known, mask], axis=-1)


def picture_input(image: jax.Array, mask: jax.Array, edges: jax.Array) -> jax.Array:
    """What G2 sees, [RGB · K + M, edges]: [N, S, S, 4]."""
    return jnp.concatenate([to_unit(image) * (1.0 - mask) + mask, edges], axis=-1)


def joined_edges(logits: jax.Array, mask: jax.Array, known: jax.Array) -> jax.Array:
    """E = sigmoid(G1) · M + known edges · K; a network's edges are not thresholded."""
    return nn.sigmoid(logits) * mask + known * (1.0 - mask)


def complete_edges(
    config: ConfigDict,
    variables: dict[str, Any],
    image: jax.Array,
    mask: jax.Array,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """E for pictures in [-1, 1], [N, S, S, 1] in [0, 1], by G1 with baked weights."""
    known = known_edges(config, image, mask)
    logits = apply(edge_network(config, dtype), variables, edge_input(image, mask, known))
    return joined_edges(logits, mask, known)


def painted(
    config: ConfigDict,
    variables: dict[str, Any],
    image: jax.Array,
    mask: jax.Array,
    edges: jax.Array,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Î by G2, [N, S, S, 3] in [-1, 1]."""
    seen = picture_input(image, mask, edges)
    return nn.tanh(apply(picture_network(config, dtype), variables, seen))


def fill(
    config: ConfigDict,
    variables: Variables,
    image: jax.Array,
    mask: jax.Array,
    noise: Noise,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Î = G2([I · K + M, E]), see `Method.fill`."""
    del noise
    edges = complete_edges(config, variables["edge"], image, mask, dtype)
    return painted(config, variables["picture"], image, mask, edges, dtype)


def init(config: ConfigDict, key: jax.Array) -> Variables:
    """Weights of G1, without spectral norms, and of G2."""
    keys, side = jax.random.split(key), (1, config.image_size, config.image_size)
    return {
        "edge": dict(edge_network(config).init(keys[0], jnp.zeros((*side, 3)))),
        "picture": dict(picture_network(config).init(keys[1], jnp.zeros((*side, 4)))),
    }
