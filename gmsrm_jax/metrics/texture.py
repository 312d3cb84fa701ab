"""Whether a hole has detail at all: sharpness and texture, wherever in it they lie.

PSNR and aligned distances favour blur: a sharp window two pixels off costs more than fog. These two
see fog, and forgive the two pixels.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gmsrm_jax.metrics.paper import Definition, each_picture
from gmsrm_jax.nn.vgg import VggWeights, features

SHARPNESS, TEXTURE = "sharpness", "texture"
TEXTURE_LAYER = "relu3_1"
_CELL = 4  # side of the pixels' cell behind one position of that layer, after two poolings

TEXTURE_DEFINITIONS: dict[str, Definition] = {
    SHARPNESS: Definition(
        "Sharpness",
        "Mean length of the gradient in the hole, of the filling over that of the truth: forward "
        "differences of each colour channel, 0 beyond the last row and column; 1 is right, less is "
        "blur, more is noise; undefined where the truth has no gradient, or without a hole.",
        "1",
        "nearer to 1",
    ),
    TEXTURE: Definition(
        "Texture mismatch",
        "Means and standard deviations of the channels of VGG-19's relu3_1 over the hole, each "
        "position weighted by the share of hole pixels in its 4x4 cell: the sum of their absolute "
        "differences between filling and truth, over the sum of the truth's; undefined without a "
        "hole.",
        "1",
        "lower",
    ),
}


@jax.jit
def sharpness(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Mean gradient in the hole, filling over truth; see `TEXTURE_DEFINITIONS["sharpness"]`.

    With g(x) = √((x(r+1, c) − x(r, c))² + (x(r, c+1) − x(r, c))²) of one channel:

        sum over hole and channels of g(prediction) / the same of g(target)

    Args:
        prediction: [..., H, W, 3], 0..255.
        target: [..., H, W, 3], 0..255.
        mask: [..., H, W, 1], 1 in the hole.

    Returns:
        float32 [...], at least 0; NaN where it is undefined.

    Raises:
        ValueError: the shapes differ or are not as above.
    """

    def gradients(x: jax.Array, hole: jax.Array) -> jax.Array:
        down = jnp.diff(x, axis=0, append=x[-1:])
        right = jnp.concatenate([x[:, 3:] - x[:, :-3], jnp.zeros_like(x[:, :3])], axis=1)
        return jnp.sum(jnp.where(hole, jnp.hypot(down, right), 0.0))

    def score(x: jax.Array, y: jax.Array, hole: jax.Array) -> jax.Array:
        truth = gradients(y, hole)
        return jnp.where(truth > 0, gradients(x, hole) / jnp.maximum(truth, 1e-12), jnp.nan)

    return each_picture(score, prediction, target, mask)


@jax.jit
def texture(
    weights: VggWeights, prediction: ArrayLike, target: ArrayLike, mask: ArrayLike
) -> jax.Array:
    """Difference of texture statistics in the hole; see `TEXTURE_DEFINITIONS["texture"]`.

    With φ the activations behind relu3_1, w_p the mean of the mask over the 4x4 pixels of position
    p, m_c = sum_p w_p φ_pc / sum_p w_p and s_c = √(sum_p w_p (φ_pc − m_c)² / sum_p w_p):

        sum_c |m_c − m'_c| + |s_c − s'_c|  /  sum_c m'_c + s'_c     (' is the truth's)

    Args:
        weights: from `nn.vgg.load_vgg19`, for relu3_1.
        prediction: [..., H, W, 3], RGB in 0..255.
        target: [..., H, W, 3], RGB in 0..255.
        mask: [..., H, W, 1], 1 in the hole.

    Returns:
        float32 [...], at least 0; NaN where no cell has a hole.

    Raises:
        ValueError: the shapes differ or are not as above, or a side is below 4.
    """

    def score(x: jax.Array, y: jax.Array, hole: jax.Array) -> jax.Array:
        height, width = x.shape[0], x.shape[1] // 3
        pair = jnp.stack([x, y]).reshape(2, height, width, 3) / 127.5 - 1.0
        maps = features(weights, pair, (TEXTURE_LAYER,))[0]
        rows, columns = maps.shape[1:3]
        cells = hole.reshape(height, width, 3)[: rows * _CELL, : columns * _CELL, 0]
        cells = cells.astype(jnp.float32).reshape(rows, _CELL, columns, _CELL)
        share = jnp.mean(cells, axis=(1, 3))[None, ..., None]
        total = jnp.sum(share)
        mean = jnp.sum(share * maps, axis=(1, 2), keepdims=True) / total
        variance = jnp.sum(share * jnp.square(maps - mean), axis=(1, 2)) / total
        statistics = jnp.concatenate([mean[:, 0, 0], jnp.sqrt(variance)], axis=-1)
        return jnp.sum(jnp.abs(statistics[0] - statistics[1])) / jnp.sum(statistics[1])

    with jax.default_matmul_precision("highest"):  # the same value on every accelerator
        return each_picture(score, prediction, target, mask, smallest=_CELL)
