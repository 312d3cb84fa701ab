"""Distances on the features of networks: LPIPS, and two of VGG-19 in the hole.

What goes in and comes out stands in `metrics.measure`; the weights stand before it.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gmsrm_jax.metrics.lpips import SMALLEST_SIDE, Lpips, LpipsWeights
from gmsrm_jax.metrics.measure import Definition, check_pair, define, each_picture
from gmsrm_jax.nn.vgg import VggWeights, features
from gmsrm_jax.runtime.pixels import to_signed

VGG_HOLE, TEXTURE = "vgg_hole", "texture"
VGG_HOLE_LAYER = "relu3_1"
_CELL = 4  # side of the pixels' cell behind one position of that layer, after two poolings


@jax.jit
def lpips(weights: LpipsWeights, prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Learned perceptual distance; see `DEFINITIONS`.

    The definition's images lie in [-1, 1]; values v in 0..255 become v / 127.5 - 1 here. A side is
    16 at least (VGG), or 31 (Alex).
    """
    pair = [jnp.asarray(images, jnp.float32) for images in (prediction, target)]
    shape = check_pair(pair, SMALLEST_SIDE[weights.net])
    first, second = (to_signed(x.reshape(-1, *shape[-3:])) for x in pair)
    shares = Lpips(weights.net).apply({"params": weights.params}, first, second)
    return jnp.sum(jnp.asarray(shares), axis=-1).reshape(shape[:-3])


@jax.jit
def vgg_hole(
    weights: VggWeights, prediction: ArrayLike, target: ArrayLike, mask: ArrayLike
) -> jax.Array:
    """Distance of VGG-19 features in the hole, at least 0.

    Absolute difference of the two images' activations behind relu3_1 of VGG-19 (the original
    weights, activations divided by 57.6 as in the perceptual loss), averaged over the channels,
    then over the positions, each weighted by the share of hole pixels in its 4x4 cell; undefined
    without a hole.

    With φ the activations behind relu3_1, of C channels, and w_p the mean of the mask over the
    4x4 pixels of position p (pixels of an incomplete last row or column of cells have none):

        d = sum_p w_p · (1/C) sum_c |φ_pc(prediction) - φ_pc(target)| / sum_p w_p

    Known pixels count as far as these positions see them, 10 pixels beyond their cells. One picture
    is measured after another, so that the memory needed does not grow with their number.
    """

    def score(*row: jax.Array) -> jax.Array:
        (first, second), share = _maps(weights, *row)
        return jnp.sum(share * jnp.mean(jnp.abs(first - second), axis=-1)) / jnp.sum(share)

    with jax.default_matmul_precision("highest"):  # the same value on every accelerator
        return each_picture(score, prediction, target, mask, smallest=_CELL)


@jax.jit
def texture(
    weights: VggWeights, prediction: ArrayLike, target: ArrayLike, mask: ArrayLike
) -> jax.Array:
    """Difference of texture statistics in the hole, wherever in it; at least 0.

    Means and standard deviations of the channels of VGG-19's relu3_1 over the hole, each position
    weighted by the share of hole pixels in its 4x4 cell: the sum of their absolute differences
    between filling and truth, over the sum of the truth's; undefined without a hole.

    With φ and w_p as in `vgg_hole`, m_c = sum_p w_p φ_pc / sum_p w_p and
    s_c = √(sum_p w_p (φ_pc − m_c)² / sum_p w_p):

        sum_c |m_c − m'_c| + |s_c − s'_c|  /  sum_c m'_c + s'_c     (' is the truth's)
    """

    def score(*row: jax.Array) -> jax.Array:
        maps, share = _maps(weights, *row)
        weight = share[None, ..., None] / jnp.sum(share)
        mean = jnp.sum(weight * maps, axis=(1, 2), keepdims=True)
        variance = jnp.sum(weight * jnp.square(maps - mean), axis=(1, 2))
        statistics = jnp.concatenate([mean[:, 0, 0], jnp.sqrt(variance)], axis=-1)
        return jnp.sum(jnp.abs(statistics[0] - statistics[1])) / jnp.sum(statistics[1])

    with jax.default_matmul_precision("highest"):  # the same value on every accelerator
        return each_picture(score, prediction, target, mask, smallest=_CELL)


def _maps(
    weights: VggWeights, x: jax.Array, y: jax.Array, hole: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Features of prediction and target, [2, h, w, C], and each position's share of hole [h, w].

    Args:
        weights: from `nn.vgg.load_vgg19`, for relu3_1.
        x: the prediction, float32 [H, 3 W].
        y: the target, float32 [H, 3 W].
        hole: bool [H, 3 W].
    """
    height, width = x.shape[0], x.shape[1] // 3
    pair = to_signed(jnp.stack([x, y]).reshape(2, height, width, 3))
    maps = features(weights, pair, (VGG_HOLE_LAYER,))[0]
    rows, columns = maps.shape[1:3]
    cells = hole.reshape(height, width, 3)[: rows * _CELL, : columns * _CELL, 0]
    cells = cells.astype(jnp.float32).reshape(rows, _CELL, columns, _CELL)
    return maps, jnp.mean(cells, axis=(1, 3))


DEFINITIONS = {
    f"lpips_{net}": Definition(
        f"LPIPS ({label})",
        f"Learned perceptual distance of Zhang et al. (2018), version 0.1, with {network}: the "
        "activations of five layers, divided at every place by their length, compared by squared "
        "differences, weighted by the published linear heads, averaged over places and summed over "
        "layers; images in [-1, 1] at their own size.",
        "1",
        "lower",
    )
    for net, label, network in (
        ("vgg", "VGG", "torchvision's VGG-16"),
        ("alex", "Alex", "torchvision's AlexNet"),
    )
} | {
    VGG_HOLE: define(vgg_hole, "VGG distance in the hole", "1", "lower"),
    TEXTURE: define(texture, "Texture mismatch", "1", "lower"),
}
