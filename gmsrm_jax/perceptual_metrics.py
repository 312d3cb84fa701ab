"""LPIPS of two images in 0..255, beside the measures of `metrics` that need no weights."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gmsrm_jax.metrics import Definition
from gmsrm_jax.models.lpips import SMALLEST_SIDE, Lpips, LpipsWeights

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
}


@jax.jit
def lpips(weights: LpipsWeights, prediction: ArrayLike, target: ArrayLike) -> jax.Array:
    """Learned perceptual distance; see `DEFINITIONS`.

    The definition's images lie in [-1, 1]; values v in 0..255 become v / 127.5 - 1 here.

    Args:
        weights: from `models.lpips.load_lpips`.
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
    first, second = (x.reshape(-1, *shape[-3:]) / 127.5 - 1.0 for x in (prediction, target))
    shares = Lpips(weights.net).apply({"params": weights.params}, first, second)
    return jnp.sum(jnp.asarray(shares), axis=-1).reshape(shape[:-3])
