import functools
import math
import random

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw

from gmsrm_jax.data import masks
from gmsrm_jax.holes import center_mask

NAMES = sorted(masks.SAMPLERS)


@functools.cache
def drawn(name, size, count):
    """Masks of the seeds (3, 0), (3, 1), ... as uint8 [count, size, size]."""

    def draw(index):
        return tf.cast(masks.SAMPLERS[name](tf.stack([3, index]), size)[..., 0], tf.uint8)

    dataset = tf.data.Dataset.range(count, output_type=tf.int32).map(draw, num_parallel_calls=2)
    return next(dataset.batch(count).as_numpy_iterator())


def ratios(stack):
    return stack.mean((1, 2), dtype=np.float64)


def rectangles_reference(size, generator):
    """PIC's regular mask, as its text gives it."""
    mask = np.zeros((size, size), np.uint8)
    count = generator.randint(1, 5)
    for _ in range(count):
        row = generator.randint(0, math.floor(size - size / (count + 1)))
        column = generator.randint(0, math.floor(size - size / (count + 1)))
        height = generator.randint(math.floor(size / (count + 7)), size - row)
        width = generator.randint(math.floor(size / (count + 7)), size - column)
        mask[row : row + height, column : column + width] = 1
    return mask


def strokes_reference(generator):
    """PIC's irregular mask at 256 px, drawn with Pillow: strokes with round joints."""
    picture = Image.new("L", (256, 256))
    draw = ImageDraw.Draw(picture)

    def point():
        return generator.randint(1, 256), generator.randint(1, 256)

    def disc(centre, radius):
        x, y = centre
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)

    def stroke(points, thickness):
        half = math.ceil(thickness / 2)  # OpenCV's lines are 2 * half + 1 pixels wide
        draw.line(points, fill=1, width=2 * half + 1)
        for vertex in points:
            disc(vertex, half)

    for _ in range(generator.randint(16, 64)):
        kind = generator.random()
        if kind < 0.6:
            stroke([point(), point()], generator.randint(4, 20))
        elif kind < 0.8:
            disc(point(), generator.randint(4, 20))
        else:
            (x, y), (a, b) = point(), point()
            turn, *ends = (generator.randint(3, 180) for _ in range(3))
            turn, low, high = map(math.radians, (turn, min(ends), max(ends)))
            outline = []
            for angle in np.linspace(low, high, 1 + max(1, round((high - low) / 0.05))):
                u, v = a * math.cos(angle), b * math.sin(angle)
                outline.append(
                    (
                        x + u * math.cos(turn) - v * math.sin(turn),
                        y + u * math.sin(turn) + v * math.cos(turn),
                    )
                )
            stroke(outline, generator.randint(4, 20))
    return np.asarray(picture)


def assert_same_distribution(ours, reference, tolerance):
    """Compares quantiles of the hole ratio and the mean hole over rows and over columns."""
    quantiles = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(
        np.quantile(ratios(ours), quantiles),
        np.quantile(ratios(reference), quantiles),
        atol=tolerance,
    )
    for axis in (1, 2):
        rows = ours.mean((0, axis)).reshape(8, -1).mean(1)
        expected = reference.mean((0, axis)).reshape(8, -1).mean(1)
        np.testing.assert_allclose(rows, expected, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_shape_values_and_seed(name):
    sampler = tf.function(masks.SAMPLERS[name])
    for size in (32, 64):
        mask = sampler(tf.constant([1, 2]), size)
        assert mask.dtype == tf.float32
        assert mask.shape == (size, size, 1)
        assert set(np.unique(mask)) <= {0.0, 1.0}
        np.testing.assert_array_equal(mask, sampler(tf.constant([1, 2]), size))
        np.testing.assert_array_equal(mask, masks.SAMPLERS[name](tf.constant([1, 2]), size))
        assert np.any(mask != sampler(tf.constant([1, 3]), size))
        assert np.any(mask != sampler(tf.constant([2, 2]), size))


def test_draws_do_not_depend_on_their_order():
    sampler = tf.function(masks.SAMPLERS["pic"])
    backwards = [sampler(tf.constant([3, i]), 64).numpy()[..., 0] for i in reversed(range(20))]
    np.testing.assert_array_equal(backwards[::-1], drawn("pic", 64, 500)[:20])


@pytest.mark.parametrize(
    ("name", "mean", "deviation"), [("pic_regular", 0.304, 0.150), ("pic_irregular", 0.527, 0.129)]
)
def test_hole_ratio_at_256_px_is_that_of_pic(name, mean, deviation):
    values = ratios(drawn(name, 256, 2000))
    assert abs(values.mean() - mean) < 0.015
    assert abs(values.std() - deviation) < 0.015


@pytest.mark.parametrize("name", ["pic_regular", "pic_irregular"])
@pytest.mark.parametrize(("size", "count"), [(32, 2000), (64, 2000), (512, 400)])
def test_hole_ratio_does_not_depend_on_the_size(name, size, count):
    expected = ratios(drawn(name, 256, 2000)[:count]).mean()
    assert abs(ratios(drawn(name, size, count)).mean() - expected) < 0.02


def test_irregular_shapes_scale_with_the_picture():
    large, small = drawn("pic_irregular", 256, 2000)[:200], drawn("pic_irregular", 64, 2000)[:200]
    share = large.reshape(200, 64, 4, 64, 4).mean((2, 4))
    certain = (share == 0.0) | (share == 1.0)
    assert certain.mean() > 0.7
    # A slit between shapes can lie between the finer pixels.
    assert np.mean(small[certain] != share[certain]) < 1e-4


def test_mixture_takes_each_sampler_half_of_the_time():
    values = ratios(drawn("pic", 64, 500))
    expected = np.concatenate(
        [ratios(drawn(name, 64, 2000)) for name in ("pic_regular", "pic_irregular")]
    )
    assert abs(values.mean() - expected.mean()) < 0.03
    assert abs(values.std() - expected.std()) < 0.02


def test_regular_masks_have_pics_distribution():
    generator = random.Random(0)
    reference = np.stack([rectangles_reference(64, generator) for _ in range(4000)])
    assert_same_distribution(drawn("pic_regular", 64, 2000), reference, 0.03)


def test_irregular_masks_have_pics_distribution():
    generator = random.Random(0)
    reference = np.stack([strokes_reference(generator) for _ in range(600)])
    assert_same_distribution(drawn("pic_irregular", 256, 2000), reference, 0.035)


def test_a_single_rectangle_keeps_pics_bounds():
    size = 64
    seen = 0
    for mask in drawn("pic_regular", size, 2000):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        # The union has the bounds of its rectangles, whatever their number N, 1 to 5.
        assert top <= size - size // 6
        assert left <= size - size // 6
        assert min(bottom - top, right - left) >= size // 12
        if mask.sum() == (bottom - top) * (right - left):
            seen += 1
            assert mask[top:bottom, left:right].all()
    assert seen > 100


def test_center_mask_is_the_one_of_holes():
    assert masks.center_mask is center_mask
