"""Measures of one picture in float64 NumPy, window by window, and pictures to measure."""

import numpy as np
from PIL import Image

from gmsrm_jax.assets import asset_path

UNIFORM = np.full((7, 7), 1.0 / 49.0)
_BELL = np.exp(-(np.arange(-5, 6) ** 2) / (2.0 * 1.5**2))
GAUSSIAN = np.outer(_BELL, _BELL) / _BELL.sum() ** 2


def psnr(prediction, target):
    decibels = []
    for channel in range(3):
        difference = prediction[..., channel] - target[..., channel]
        error = float((difference * difference).sum()) / difference.size
        decibels.append(np.inf if error == 0.0 else 10.0 * np.log10(255.0 * 255.0 / error))
    return min(sum(decibels) / 3.0, 100.0)


def ssim_map(prediction, target, weights, sample):
    """[H - n + 1, W - n + 1, 3] for weights [n, n]; `sample` multiplies the (co)variances."""
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    rows, columns = target.shape[0] - len(weights) + 1, target.shape[1] - len(weights) + 1

    def mean(values):
        return sum(
            weight * values[i : i + rows, j : j + columns]
            for (i, j), weight in np.ndenumerate(weights)
        )

    x, y = prediction, target
    mx, my = mean(x), mean(y)
    variances = sample * (mean(x * x) - mx**2 + mean(y * y) - my**2)
    covariance = sample * (mean(x * y) - mx * my)
    return ((2 * mx * my + c1) * (2 * covariance + c2)) / ((mx**2 + my**2 + c1) * (variances + c2))


def ssim(prediction, target):
    return float(ssim_map(prediction, target, UNIFORM, 49.0 / 48.0).mean())


def ssim_gaussian(prediction, target):
    return float(ssim_map(prediction, target, GAUSSIAN, 1.0).mean())


def ncc(prediction, target):
    if np.ptp(prediction) == 0.0 or np.ptp(target) == 0.0:
        return np.nan
    return float(np.corrcoef(prediction.ravel(), target.ravel())[0, 1])


def lmse(prediction, target):
    height, width, _ = target.shape
    error = energy = 0.0
    for channel in range(3):
        for i in range(0, height - 19, 10):
            for j in range(0, width - 19, 10):
                o = prediction[i : i + 20, j : j + 20, channel]
                g = target[i : i + 20, j : j + 20, channel]
                square = (o * o).sum()
                factor = (g * o).sum() / square if square > 1e-5 else 0.0
                error += ((g - factor * o) ** 2).sum()
                energy += (g * g).sum()
    return error / energy if energy else np.nan


def l1(prediction, target):
    return float(np.abs(prediction - target).mean())


def hole_pixels(image, mask):
    """[n, 3]: the pixels of the hole, one after another."""
    height, width, _ = mask.shape
    return np.array([image[i, j] for i in range(height) for j in range(width) if mask[i, j, 0]])


def psnr_hole(prediction, target, mask):
    return psnr(hole_pixels(prediction, mask), hole_pixels(target, mask))


def l1_hole(prediction, target, mask):
    return l1(hole_pixels(prediction, mask), hole_pixels(target, mask))


def ssim_hole(prediction, target, mask):
    values = ssim_map(prediction, target, UNIFORM, 49.0 / 48.0)
    return float(hole_pixels(values, mask[3:-3, 3:-3]).mean())


def sharpness(prediction, target, mask):
    sums = []
    for image in (prediction, target):
        total = 0.0
        for y, x in zip(*np.nonzero(mask[..., 0]), strict=True):
            down = image[y + 1, x] - image[y, x] if y + 1 < len(mask) else np.zeros(3)
            right = image[y, x + 1] - image[y, x] if x + 1 < mask.shape[1] else np.zeros(3)
            total += np.sqrt(down**2 + right**2).sum()
        sums.append(total)
    return sums[0] / sums[1]


PAPER = {"psnr": psnr, "ssim": ssim, "ncc": ncc, "lmse": lmse}
EXTRA = {"l1": l1, "ssim_gaussian": ssim_gaussian}
HOLE = {
    "psnr_hole": psnr_hole,
    "l1_hole": l1_hole,
    "ssim_hole": ssim_hole,
    "sharpness": sharpness,
}


def photographs(count, height, width):
    """uint8 [count, height, width, 3]: bundled test pictures, resized."""
    paths = sorted(asset_path("facades/test").glob("*.jpg"))[:count]
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            resized = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        pictures.append(np.asarray(resized))
    return np.stack(pictures)


def pattern(height, width):
    """A prediction and a target given by whole-number formulas, uint8 [height, width, 3]."""
    row, column, channel = np.meshgrid(
        np.arange(height), np.arange(width), np.arange(3), indexing="ij"
    )
    target = (3 * row + 5 * column + 40 * channel + (row * column) // 7) % 256
    noise = (row * 7919 + column * 104729 + channel * 1299709) % 23 - 11
    return np.clip(target + noise, 0, 255).astype(np.uint8), target.astype(np.uint8)
