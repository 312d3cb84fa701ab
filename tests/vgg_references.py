"""VGG-19 features, and the distance in the hole, as loops in float64; real pictures for them."""

import numpy as np
from PIL import Image

from gmsrm_jax.assets import asset_path


def pictures(count, size):
    """Real facades, uint8 [count, size, size, 3], whole pictures cropped to a square."""
    result = []
    for path in sorted(asset_path("facades/test").glob("*.jpg"))[:count]:
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        crop = image.crop((left, top, left + side, top + side))
        result.append(np.asarray(crop.resize((size, size), Image.Resampling.BICUBIC)))
    assert len(result) == count
    return np.stack(result)


def reference_features(params, x):
    """relu1_1, relu2_1, relu3_1 of a normalised image [H, W, 3] in float64, window by window."""
    taps = []
    for name in ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"):
        if name in ("conv2_1", "conv3_1"):
            h, w, c = x.shape
            pooled = np.empty((h // 2, w // 2, c))
            for i, j in np.ndindex(pooled.shape[:2]):
                pooled[i, j] = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1))
            x = pooled
        kernel = np.asarray(params[name]["kernel"], np.float64)
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        y = np.empty((*x.shape[:2], kernel.shape[3]))
        for i, j in np.ndindex(x.shape[:2]):
            y[i, j] = np.tensordot(padded[i : i + 3, j : j + 3], kernel, 3)
        x = np.maximum(y + np.asarray(params[name]["bias"], np.float64), 0)
        if name.endswith("_1"):
            taps.append(x)
    return taps


def reference_vgg_hole(params, prediction, target, mask):
    """The VGG distance in the hole for one picture [H, W, 3], position by position."""
    first, second = (
        reference_features(params, x[..., ::-1] - np.array([103.939, 116.779, 123.68]))[2] / 57.6
        for x in (prediction.astype(np.float64), target.astype(np.float64))
    )
    total = weight = 0.0
    for i, j in np.ndindex(first.shape[:2]):
        share = mask[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].astype(np.float64).mean()
        total += share * np.abs(first[i, j] - second[i, j]).mean()
        weight += share
    return total / weight
