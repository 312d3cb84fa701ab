"""LPIPS and a VGG-19 distance of the hole, of two images in 0..255; networks measure both."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gmsrm_jax.metrics.lpips import SMALLEST_SIDE, Lpips, LpipsWeights
from gmsrm_jax.metrics.paper import Definition, each_picture
from gmsrm_jax.nn.vgg import VggWeights, features
from gmsrm_jax.runtime.pixels import to_signed

VGG_HOLE = "vgg_hole"
VGG_HOLE_LAYER = "relu3_1"
_CELL = 4  # side of the pixels' cell behind one position of that layer, after two poolings

DEFINITIONS: dict[str, Definition] = {
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
    VGG_HOLE: Definition(
        "VGG distance in the hole",
        "Absolute difference of the two images' activations behind relu3_1 of VGG-19 (the original "
        "weights, activations divided by 57.6 as in the perceptual loss), averaged over the "
        "channels, then over the positions, each weighted by the share of hole pixels in its 4x4 "
        "cell; undefined without a hole.",
        "1",
        "lower",
    )
}


@jax.jit
def lpips(weights: LpipsWeights, prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Learned perceptual distance; see `DEFINITIONS`.

    The definition's images lie in [-1, 1]; values v in 0..255 become v / 127.5 - 1 here.

    Args:
        weights: from `metrics.lpips.load_lpips`.
        prediction: [..., H, W, 3], RGB in 0..255.
        target: [..., H, W, 3], RGB in 0..255.

    Returns:
        float32 [...], at least 0.

    Raises:
        ValueError: the shapes differ, are not [..., H, W, 3], or a side is below 16 (VGG) or 31
            (Alex).
    """
    prediction = jnp.asarray(prediction, jnp.float32)
    target = jnp.asarray(target, jnp.float32)
    shape, smallest = prediction.shape, SMALLEST_SIDE[weights.net]
    if shape != target.shape:
        raise ValueError(f"prediction {shape} and target {target.shape} differ in shape")
    if len(shape) < 3 or shape[-1] != 3 or min(shape[-3:-1]) < smallest:
        raise ValueError(
            f"images must be [..., H, W, 3] with H and W at least {smallest}, got {shape}"
        )
    first, second = (to_signed(x.reshape(-1, *shape[-3:])) for x in (prediction, target))
    shares = Lpips(weights.net).apply({"params": weights.params}, first, second)
    return jnp.sum(jnp.asarray(shares), axis=-1).reshape(shape[:-3])


@jax.jit
def vgg_hole(
    weights: VggWeights, prediction: ArrayLike, target: ArrayLike, mask: ArrayLike
) -> jax.Array:
    """Distance of VGG-19 features in the hole; see `DEFINITIONS["vgg_hole"]`.

    With φ the activations behind relu3_1, of C channels, and w_p the mean of the mask over the
    4x4 pixels of position p (pixels of an incomplete last row or column of cells have none):

        d = sum_p w_p · (1/C) sum_c |φ_pc(prediction) - φ_pc(target)| / sum_p w_p

    Known pixels count as far as these positions see them, 10 pixels beyond their cells. One picture
    is measured after another, so that the memory needed does not grow with their number.

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
        pair = to_signed(jnp.stack([x, y]).reshape(2, height, width, 3))
        first, second = features(weights, pair, (VGG_HOLE_LAYER,))[0]
        rows, columns = first.shape[:2]
        cells = hole.reshape(height, width, 3)[: rows * _CELL, : columns * _CELL, 0]
        cells = cells.astype(jnp.float32).reshape(rows, _CELL, columns, _CELL)
        share = jnp.mean(cells, axis=(1, 3))
        return jnp.sum(share * jnp.mean(jnp.abs(first - second), axis=-1)) / jnp.sum(share)

    with jax.default_matmul_precision("highest"):  # the same value on every accelerator
        return each_picture(score, prediction, target, mask, smallest=_CELL)
