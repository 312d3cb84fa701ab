"""The four measures against plain float64 code, stored scikit-image values and closed forms."""

import functools

import jax
import jax.numpy as jnp
import metric_references
import numpy as np
import pytest
from metric_references import pattern, photographs

from gmsrm_jax.metrics import DEFINITIONS, METRICS, lmse, ncc, psnr, ssim

TOLERANCE = 1e-4


def to_pixels(values):
    return np.clip(values, 0.0, 255.0).astype(np.float32)


@functools.cache
def hard_cases(height, width):
    """name -> (prediction, target)."""
    target, other = photographs(2, height, width)
    random = np.random.default_rng(0)
    noise = random.normal(0.0, 12.0, target.shape)
    exact = target.astype(np.float64)
    filled = target.copy()
    filled[height // 4 : -12, 12:-12] = target.mean((0, 1)).astype(np.uint8)
    half_black = target.copy()
    half_black[: height // 2] = 0
    flat = np.full_like(target, 200)
    speck, two_specks = flat.copy(), flat.copy()
    speck[5, 7, 1] = 201
    two_specks[5, 7] = 203
    two_specks[-3, -9] = 190
    spark = np.zeros_like(target)
    spark[::15, ::15] = 1
    one_level = target.copy()
    one_level[4, 6, 2] ^= 1
    return {
        "noise": (to_pixels(target + noise), target),
        "rounded noise": (to_pixels(target + noise).astype(np.uint8), target),
        "tiny noise": (to_pixels(target + noise / 3000.0), target),
        "one value off by one": (one_level, target),
        "slightly brighter": (to_pixels(0.9 * exact + 0.01), to_pixels(0.9 * exact)),
        "another picture": (other, target),
        "filled hole": (filled, target),
        "all hole, mean colour": (
            np.broadcast_to(target.mean((0, 1)).astype(np.uint8), target.shape),
            target,
        ),
        "all hole, one grey": (np.full_like(target, 90), target),
        "all hole, black": (np.zeros_like(target), target),
        "black with sparks": (spark, target),
        "almost black": (to_pixels(np.abs(noise) / 1e4), target),
        "black half predicted": (half_black, target),
        "black half wanted": (target, half_black),
        "nearly white": (to_pixels(254.0 + noise / 12.0), to_pixels(254.3 - noise / 13.0)),
        "flat, not whole numbers": (np.full(target.shape, 254.7), np.full(target.shape, 254.1)),
        "nearly constant": (speck, two_specks),
        "nearly constant prediction": (speck, target),
        "nearly constant floats": (
            to_pixels(200.3 + noise / 1e3),
            to_pixels(200.3 + random.normal(0.0, 0.01, target.shape)),
        ),
        "dark": (to_pixels(exact * 0.02), to_pixels(exact * 0.03)),
        "black and white": (np.where(other > 128, 255, 0), np.where(target > 128, 255, 0)),
    }


@pytest.mark.parametrize("metric", list(METRICS))
# Sides that are no multiples of 10 leave a rest in the strides of LMSE; 20 is its smallest.
@pytest.mark.parametrize("size", [(47, 62), (20, 29)])
def test_equals_float64(size, metric):
    for case, (prediction, target) in hard_cases(*size).items():
        value = METRICS[metric](prediction, target)
        assert value.dtype == jnp.float32
        assert value.shape == ()
        # The functions see float32 pixels; what the conversion changes is not theirs.
        pair = (np.asarray(x, np.float32).astype(np.float64) for x in (prediction, target))
        expected = metric_references.PAPER[metric](*pair)
        assert float(value) == pytest.approx(expected, abs=TOLERANCE, nan_ok=True), case


def test_full_size_pictures_equal_float64():
    """All four in one program, on bundled pictures at the paper's 256 px."""
    targets = photographs(4, 256, 256)
    predictions = targets.copy()
    noise = np.random.default_rng(1).normal(0.0, 30.0, (4, 128, 128, 3))
    predictions[:, 64:192, 64:192] = to_pixels(targets[:, 64:192, 64:192] + noise)
    predictions[3] = 77
    score = jax.jit(lambda x, y: {name: metric(x, y) for name, metric in METRICS.items()})
    for name, values in score(predictions, targets).items():
        for value, prediction, target in zip(values, predictions, targets, strict=True):
            expected = metric_references.PAPER[name](prediction.astype(float), target.astype(float))
            assert float(value) == pytest.approx(expected, abs=TOLERANCE, nan_ok=True), name


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
    assert float(ssim(picture, picture)) == 1.0
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
