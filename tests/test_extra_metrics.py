"""L1, the Gaussian SSIM and the hole's measures against float64 code and scikit-image's values."""

import jax
import jax.numpy as jnp
import metric_references
import numpy as np
import pytest
from metric_references import pattern, photographs

from gmsrm_jax.evaluation.tables import heading, score_text
from gmsrm_jax.metrics import DEFINITIONS, psnr, ssim
from gmsrm_jax.metrics.extra import (
    EXTRA_DEFINITIONS,
    EXTRA_METRICS,
    HOLE_METRICS,
    l1,
    l1_hole,
    psnr_hole,
    ssim_gaussian,
    ssim_hole,
)

TOLERANCE = 1e-4


def cases(height, width):
    """name -> (prediction, target, mask); the hole touches the upper edge."""
    target, other = photographs(2, height, width)
    noise = np.random.default_rng(0).normal(0.0, 12.0, target.shape)
    mask = np.zeros((height, width, 1), np.uint8)
    mask[: height // 2, width // 3 : -2] = 1
    mask[-5, 4] = 1

    def pixels(values):
        return np.clip(values, 0.0, 255.0).astype(np.float32)

    return {
        "noise": (pixels(target + noise), target, mask),
        "tiny noise": (pixels(target + noise / 3000.0), target, mask),
        "another picture": (other, target, mask),
        "composite": (np.where(mask == 1, other, target), target, mask),
        "black, all hole": (np.zeros_like(target), target, np.ones_like(mask)),
        "nearly constant": (pixels(200.3 + noise / 1e3), pixels(200.3 - noise / 9e2), mask),
        "nearly white": (pixels(254.0 + noise / 12.0), pixels(254.3 - noise / 13.0), mask),
    }


@pytest.mark.parametrize("size", [(47, 62), (20, 29)])
def test_equals_float64(size):
    for case, (prediction, target, mask) in cases(*size).items():
        pair = (prediction.astype(np.float64), target.astype(np.float64))
        for name, metric in EXTRA_METRICS.items():
            expected = metric_references.EXTRA[name](*pair)
            value = metric(prediction, target)
            assert float(value) == pytest.approx(expected, abs=TOLERANCE), (name, case)
        for name, hole_metric in HOLE_METRICS.items():
            expected = metric_references.HOLE[name](*pair, mask)
            value = hole_metric(prediction, target, mask)
            assert float(value) == pytest.approx(expected, abs=TOLERANCE, rel=1e-5), (name, case)


# scikit-image 0.26.0, NumPy 2.4.6, with target and prediction from pattern(height, width):
#   structural_similarity(target, prediction, gaussian_weights=True, sigma=1.5,
#                         use_sample_covariance=False, data_range=255, channel_axis=-1)
#   the mean of structural_similarity(target, prediction, data_range=255, channel_axis=-1,
#       full=True)[1][3:12, 20:-3]: rows 0 to 11 and columns 20 on, without a border of 3
SCIKIT_IMAGE = {
    (37, 53): (0.9420915212204758, 0.9701879351286564),
    (64, 64): (0.9581440080781708, 0.9700673603629332),
}


@pytest.mark.parametrize("size", list(SCIKIT_IMAGE))
def test_equals_scikit_image(size):
    prediction, target = pattern(*size)
    mask = np.zeros((*size, 1), bool)
    mask[:12, 20:] = True
    gaussian, in_hole = SCIKIT_IMAGE[size]
    assert float(ssim_gaussian(prediction, target)) == pytest.approx(gaussian, abs=1e-5)
    assert float(ssim_hole(prediction, target, mask)) == pytest.approx(in_hole, abs=1e-5)


def test_identical_pictures():
    picture = photographs(1, 40, 50)[0]
    mask = np.ones((40, 50, 1), np.uint8)
    assert float(l1(picture, picture)) == 0.0
    assert float(ssim_gaussian(picture, picture)) == 1.0
    assert float(psnr_hole(picture, picture, mask)) == 100.0
    assert float(l1_hole(picture, picture, mask)) == 0.0
    assert float(ssim_hole(picture, picture, mask)) == 1.0


def test_without_a_hole_nothing_is_defined():
    prediction, target = photographs(2, 40, 50)
    for name, metric in HOLE_METRICS.items():
        assert np.isnan(metric(prediction, target, np.zeros((40, 50, 1), np.uint8))), name
    # A hole of three pixels' width at the edge is the centre of no window.
    edge = np.zeros((40, 50, 1), np.uint8)
    edge[:3] = edge[-3:] = edge[:, :3] = edge[:, -3:] = 1
    assert np.isnan(ssim_hole(prediction, target, edge))
    assert not np.isnan(psnr_hole(prediction, target, edge))
    assert not np.isnan(l1_hole(prediction, target, edge))


def test_when_all_is_hole_they_equal_those_of_the_picture():
    prediction, target = photographs(2, 40, 50)
    mask = np.ones((40, 50, 1), np.uint8)
    for hole_metric, metric in ((psnr_hole, psnr), (l1_hole, l1), (ssim_hole, ssim)):
        value = float(hole_metric(prediction, target, mask))
        assert value == pytest.approx(float(metric(prediction, target)), rel=1e-6)


def test_pixels_outside_the_hole_do_not_count():
    prediction, target = photographs(2, 40, 50)
    mask = np.zeros((40, 50, 1), np.uint8)
    mask[10:30, 5:25] = 1
    outside = np.where(mask == 1, prediction, 255 - prediction)
    assert float(psnr_hole(outside, target, mask)) == float(psnr_hole(prediction, target, mask))
    assert float(l1_hole(outside, target, mask)) == float(l1_hole(prediction, target, mask))
    # SSIM's windows reach 3 pixels over the edge of the hole.
    mask_3, mask_4 = np.zeros_like(mask), np.zeros_like(mask)
    mask_3[13:27, 8:22] = mask_4[12:27, 8:22] = 1
    for mask_inside, equal in ((mask_3, True), (mask_4, False)):
        values = [float(ssim_hole(image, target, mask_inside)) for image in (outside, prediction)]
        assert (values[0] == values[1]) == equal


def test_leading_dimensions_dtypes_and_jit():
    pictures = photographs(4, 40, 50)
    predictions, targets = (x.reshape(2, 2, 40, 50, 3) for x in (pictures[::-1], pictures))
    masks = np.random.default_rng(0).integers(0, 2, (2, 2, 40, 50, 1), np.uint8)
    calls = [(metric, (predictions, targets)) for metric in EXTRA_METRICS.values()]
    calls += [(metric, (predictions, targets, masks)) for metric in HOLE_METRICS.values()]
    for metric, arrays in calls:
        batched = jax.jit(metric)(*arrays)
        assert batched.shape == (2, 2)
        assert batched.dtype == jnp.float32
        for index in np.ndindex(2, 2):
            floats = (array[index].astype(np.float32) for array in arrays)
            assert float(batched[index]) == pytest.approx(float(metric(*floats)), rel=1e-5)


def test_shapes_are_checked():
    image = np.zeros((32, 32, 3))
    for metric in HOLE_METRICS.values():
        with pytest.raises(ValueError, match="differ in shape"):
            metric(image, image[1:], np.zeros((32, 32, 1)))
        for shape in ((32, 32), (32, 32, 3), (31, 32, 1), (1, 32, 32, 1)):
            with pytest.raises(ValueError, match="the mask of"):
                metric(image, image, np.zeros(shape))
    with pytest.raises(ValueError, match="at least 11"):
        ssim_gaussian(image[:10], image[:10])


def test_every_metric_is_defined_and_can_be_printed():
    assert list(EXTRA_DEFINITIONS) == [*EXTRA_METRICS, *HOLE_METRICS]
    assert not set(EXTRA_DEFINITIONS) & set(DEFINITIONS)
    labels = {definition.label for definition in (DEFINITIONS | EXTRA_DEFINITIONS).values()}
    assert len(labels) == 10
    for definition in EXTRA_DEFINITIONS.values():
        assert definition.text.endswith(".")
    assert heading(EXTRA_DEFINITIONS["psnr_hole"]) == "PSNR in the hole [dB] ↑"
    assert heading(EXTRA_DEFINITIONS["l1"]) == "L1 [levels] ↓"
    printed = {"l1": "0.51", "ssim_gaussian": "0.5124", "psnr_hole": "0.51", "l1_hole": "0.51"}
    for name, text in (printed | {"ssim_hole": "0.5124", "sharpness": "0.5124"}).items():
        assert score_text(name, EXTRA_DEFINITIONS[name], 0.51236) == text
