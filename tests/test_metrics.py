"""The four measures against plain float64 loops, stored scikit-image values and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.assets import asset_path
from gmsrm_jax.metrics import DEFINITIONS, METRICS, lmse, ncc, psnr, ssim

TOLERANCE = 1e-4


def loop_psnr(prediction, target):
    decibels = []
    for channel in range(3):
        difference = prediction[..., channel] - target[..., channel]
        error = float((difference * difference).sum()) / difference.size
        decibels.append(np.inf if error == 0.0 else 10.0 * np.log10(255.0 * 255.0 / error))
    return min(sum(decibels) / 3.0, 100.0)


def loop_ssim(prediction, target):
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    height, width, _ = target.shape
    channels = []
    for channel in range(3):
        values = []
        for i in range(height - 6):
            for j in range(width - 6):
                x = prediction[i : i + 7, j : j + 7, channel].ravel()
                y = target[i : i + 7, j : j + 7, channel].ravel()
                covariance = np.cov(x, y)  # divides by 48
                mx, my = x.mean(), y.mean()
                values.append(
                    (2 * mx * my + c1)
                    * (2 * covariance[0, 1] + c2)
                    / ((mx**2 + my**2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2))
                )
        channels.append(np.mean(values))
    return float(np.mean(channels))


def loop_ncc(prediction, target):
    return float(np.corrcoef(prediction.ravel(), target.ravel())[0, 1])


def loop_lmse(prediction, target):
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
    return error / energy


LOOPS = {"psnr": loop_psnr, "ssim": loop_ssim, "ncc": loop_ncc, "lmse": loop_lmse}


def photographs(count, height, width):
    """uint8 [count, height, width, 3]: crops of the bundled test pictures."""
    paths = sorted(asset_path("facades/test").glob("*.jpg"))[:count]
    crops = []
    for path in paths:
        with Image.open(path) as picture:
            crops.append(np.asarray(picture.convert("RGB"))[20 : 20 + height, 30 : 30 + width])
    return np.stack(crops)


@pytest.fixture(scope="module")
def hard_cases():
    """name -> (prediction, target); sides of 47 and 62 px leave a rest in every window stride."""
    target, other = photographs(2, 47, 62)
    random = np.random.default_rng(0)
    noise = random.normal(0.0, 12.0, target.shape)
    filled = target.copy()
    filled[10:35, 12:50] = target.mean((0, 1)).astype(np.uint8)
    half_black = target.copy()
    half_black[:25] = 0
    bright = np.clip(target.astype(int) + 170, 0, 255).astype(np.uint8)
    return {
        "noise": (np.clip(target + noise, 0, 255).astype(np.float32), target),
        "tiny noise": ((target + noise / 500.0).astype(np.float32), target),
        "another picture": (other, target),
        "filled hole": (filled, target),
        "black half predicted": (half_black, target),
        "black half wanted": (target, half_black),
        "nearly white": (np.clip(bright + noise / 6.0, 0, 255).astype(np.float32), bright),
        "dark": ((target * 0.02).astype(np.float32), (target * 0.03).astype(np.float32)),
        "constant prediction": (np.full_like(target, 90), target),
    }


CASE_NAMES = [
    "noise",
    "tiny noise",
    "another picture",
    "filled hole",
    "black half predicted",
    "black half wanted",
    "nearly white",
    "dark",
    "constant prediction",
]


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("case", CASE_NAMES)
def test_equals_a_float64_loop(hard_cases, metric, case):
    prediction, target = hard_cases[case]
    value = METRICS[metric](prediction, target)
    assert value.dtype == jnp.float32
    assert value.shape == ()
    if metric == "ncc" and case == "constant prediction":
        assert np.isnan(value)
        return
    expected = LOOPS[metric](prediction.astype(np.float64), target.astype(np.float64))
    assert float(value) == pytest.approx(expected, abs=TOLERANCE)


def pattern(height, width):
    """A prediction and a target given by whole-number formulas, uint8 [height, width, 3]."""
    row, column, channel = np.meshgrid(
        np.arange(height), np.arange(width), np.arange(3), indexing="ij"
    )
    target = (3 * row + 5 * column + 40 * channel + (row * column) // 7) % 256
    noise = (row * 7919 + column * 104729 + channel * 1299709) % 23 - 11
    return np.clip(target + noise, 0, 255).astype(np.uint8), target.astype(np.uint8)


# scikit-image 0.26.0, NumPy 2.4.6, with target and prediction from pattern(height, width):
#   structural_similarity(target, prediction, data_range=255, channel_axis=-1)
#   mean over c of peak_signal_noise_ratio(target[..., c], prediction[..., c], data_range=255)
SCIKIT_IMAGE = {
    (37, 53): (0.9636978790558718, 31.80690530615787),
    (64, 64): (0.9743326080423477, 31.81316957284911),
}


@pytest.mark.parametrize("size", list(SCIKIT_IMAGE))
def test_equals_scikit_image(size):
    prediction, target = pattern(*size)
    structure, decibels = SCIKIT_IMAGE[size]
    assert float(ssim(prediction, target)) == pytest.approx(structure, abs=TOLERANCE)
    assert float(psnr(prediction, target)) == pytest.approx(decibels, abs=TOLERANCE)


def test_identical_pictures():
    picture = photographs(1, 64, 64)[0]
    assert float(psnr(picture, picture)) == 100.0
    assert float(ssim(picture, picture)) == pytest.approx(1.0, abs=1e-6)
    assert float(ncc(picture, picture)) == pytest.approx(1.0, abs=1e-6)
    assert float(lmse(picture, picture)) == 0.0


def test_psnr_is_the_mean_over_channels():
    """Errors of 1, 10 and 100: 48.13, 28.13 and 8.13 dB; the dB of the mean error are 12.86."""
    target = np.zeros((20, 20, 3), np.uint8)
    prediction = target + np.array([1, 10, 100], np.uint8)
    expected = 20.0 * np.log10(255.0) - 20.0
    assert float(psnr(prediction, target)) == pytest.approx(expected, abs=TOLERANCE)


def test_psnr_is_capped_after_the_mean():
    """One perfect channel makes the mean infinite, whatever the others are."""
    target = np.zeros((20, 20, 3), np.uint8)
    prediction = target + np.array([0, 10, 100], np.uint8)
    assert float(psnr(prediction, target)) == 100.0


def test_constant_pictures_have_no_correlation():
    picture = photographs(1, 64, 64)[0]
    # 0.1 has no exact float32 mean over many pixels, so a tiny deviation must not count.
    flat = np.full(picture.shape, 0.1, np.float32)
    assert np.isnan(ncc(flat, picture))
    assert np.isnan(ncc(picture, flat))
    assert np.isnan(ncc(flat, flat))


def test_ncc_ignores_gain_and_offset():
    picture = photographs(1, 64, 64)[0].astype(np.float32)
    assert float(ncc(0.5 * picture + 30.0, picture)) == pytest.approx(1.0, abs=1e-5)
    assert float(ncc(255.0 - picture, picture)) == pytest.approx(-1.0, abs=1e-5)


def test_lmse_ignores_one_gain_and_a_black_prediction_is_all_error():
    picture = photographs(1, 64, 64)[0].astype(np.float32)
    assert float(lmse(0.25 * picture, picture)) == pytest.approx(0.0, abs=1e-6)
    assert float(lmse(np.zeros_like(picture), picture)) == pytest.approx(1.0, abs=1e-6)
    assert np.isnan(lmse(picture, np.zeros_like(picture)))


def test_uint8_does_not_wrap_around():
    prediction, target = photographs(2, 64, 64)
    for name, metric in METRICS.items():
        floats = metric(prediction.astype(np.float32), target.astype(np.float32))
        assert float(metric(prediction, target)) == float(floats), name


def test_leading_dimensions_and_jit():
    pictures = photographs(4, 40, 50)
    predictions = pictures[::-1].reshape(2, 2, 40, 50, 3)
    targets = pictures.reshape(2, 2, 40, 50, 3)
    for name, metric in METRICS.items():
        batched = np.asarray(jax.jit(metric)(predictions, targets))
        assert batched.shape == (2, 2)
        for i, j in np.ndindex(2, 2):
            single = float(metric(predictions[i, j], targets[i, j]))
            assert batched[i, j] == pytest.approx(single, rel=1e-5), name


@pytest.mark.parametrize("metric", list(METRICS))
def test_shapes_are_checked(metric):
    score = METRICS[metric]
    with pytest.raises(ValueError, match="differ in shape"):
        score(np.zeros((32, 32, 3)), np.zeros((32, 31, 3)))
    with pytest.raises(ValueError, match=r"\[\.\.\., H, W, 3\]"):
        score(np.zeros((32, 32, 1)), np.zeros((32, 32, 1)))


def test_pictures_smaller_than_a_window_are_refused():
    small = np.zeros((19, 40, 3))
    with pytest.raises(ValueError, match="at least 20"):
        lmse(small, small)
    with pytest.raises(ValueError, match="at least 7"):
        ssim(small[:6], small[:6])


def test_every_metric_is_defined_in_words():
    assert list(DEFINITIONS) == list(METRICS)
    for definition in DEFINITIONS.values():
        assert definition.better in ("higher", "lower")
        assert definition.text.endswith(".")
