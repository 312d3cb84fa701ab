import functools
import random

import numpy as np
import pytest
import tensorflow as tf
from mask_references import REFERENCES, brush_reference, within

from gmsrm_jax.data import masks
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.data.masks.samplers import drawing
from gmsrm_jax.data.masks.samplers.free_form import brush_strokes
from gmsrm_jax.runtime.errors import UserError

NAMES = sorted(masks.SAMPLERS)
LAMA_EVALUATION = ["lama_thin", "lama_medium", "lama_thick"]

# Mean and standard deviation of the hole ratio at 256 px. PIC's are those of its public generator;
# the others come from 40,000 masks of a simulation of each generator's ranges that drew with the
# library the generator uses (OpenCV 4.10 for LaMa, Pillow for DeepFillV2 and MAT).
PUBLISHED = {
    "pic_regular": (0.304, 0.150),
    "pic_irregular": (0.527, 0.129),
    "free_form": (0.3098, 0.0687),
    "lama": (0.3511, 0.2015),
    "lama_thin": (0.2878, 0.1280),
    "lama_medium": (0.2396, 0.1315),
    "lama_thick": (0.2658, 0.1294),
    "mat": (0.4047, 0.1866),
}

# Hole ratios at 64 px of the seeds (3, 0) to (3, 3): mask lists and runs name masks by their seeds.
DRAWS = {
    "pic_regular": [0.4053, 0.1050, 0.1426, 0.1934],
    "pic_irregular": [0.7029, 0.4058, 0.4441, 0.3872],
    "pic": [0.4683, 0.1340, 0.2129, 0.6226],
    "free_form": [0.3425, 0.2930, 0.2866, 0.2185],
    "lama_thin": [0.4370, 0.4563, 0.2661, 0.4258],
    "lama_medium": [0.0605, 0.0632, 0.2573, 0.3230],
    "lama_thick": [0.2725, 0.2627, 0.4106, 0.3992],
    "lama": [0.1289, 0.3284, 0.5522, 0.2556],
    "mat": [0.1255, 0.6597, 0.6736, 0.2390],
}


def each_seed(sampler, size, count, reduce):
    """What `reduce` makes of the masks float32 [size, size] of the seeds (3, 0), (3, 1), ..."""

    def draw(index):
        return reduce(sampler(tf.stack([3, index]), size)[..., 0])

    dataset = tf.data.Dataset.range(count, output_type=tf.int32).map(draw, num_parallel_calls=2)
    return next(dataset.batch(count).as_numpy_iterator())


@functools.cache
def drawn(spec, size, count):
    """Masks uint8 [count, size, size]."""
    return each_seed(masks.sampler(spec), size, count, lambda mask: tf.cast(mask, tf.uint8))


@functools.cache
def blocks(spec, size, count):
    """Shares of the hole in 8 x 8 blocks of each mask, [count, 8, 8]."""
    shape = [8, size // 8, 8, size // 8]
    return each_seed(
        masks.sampler(spec),
        size,
        count,
        lambda mask: tf.reduce_mean(tf.reshape(mask, shape), (1, 3)),
    )


def ratios(stack):
    return stack.mean((1, 2), dtype=np.float64)


@pytest.mark.parametrize("name", NAMES)
def test_shape_values_and_seed(name):
    sampler = tf.function(masks.SAMPLERS[name])
    for size in (32, 64):
        mask = sampler(tf.constant([1, 2]), size)
        assert mask.dtype == tf.float32
        assert mask.shape == (size, size, 1)
        assert set(np.unique(mask)) == {0.0, 1.0}
        np.testing.assert_array_equal(mask, sampler(tf.constant([1, 2]), size))
        np.testing.assert_array_equal(mask, masks.SAMPLERS[name](tf.constant([1, 2]), size))
        assert np.any(mask != sampler(tf.constant([1, 3]), size))
        assert np.any(mask != sampler(tf.constant([2, 2]), size))


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_means_the_same_mask_in_every_version(name):
    np.testing.assert_allclose(ratios(blocks(name, 64, 200))[:4], DRAWS[name], atol=1e-3)


@pytest.mark.parametrize("name", ["pic", "lama_thick", "pic_regular:1,mat:2"])
def test_draws_do_not_depend_on_their_order(name):
    sampler = tf.function(masks.sampler(name))
    backwards = [sampler(tf.constant([3, i]), 64).numpy()[..., 0] for i in reversed(range(20))]
    np.testing.assert_array_equal(backwards[::-1], drawn(name, 64, 20))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_hole_ratio_at_256_px_is_the_published_generators(name):
    count = 5000 if name.startswith("pic") else 2000
    values = ratios(blocks(name, 256, count))
    mean, deviation = PUBLISHED[name]
    assert abs(values.mean() - mean) < 0.01
    assert abs(values.std() - deviation) < 0.01


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pic_regular", [0.04, 0.19, 0.29, 0.40, 0.70]),
        ("pic_irregular", [0.24, 0.43, 0.54, 0.63, 0.75]),
    ],
)
def test_quantiles_at_256_px_are_those_of_pic(name, expected):
    quantiles = np.quantile(ratios(blocks(name, 256, 5000)), [0.01, 0.25, 0.5, 0.75, 0.99])
    np.testing.assert_allclose(quantiles, expected, atol=0.02)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_masks_have_the_distribution_of_an_independent_drawing(name):
    generator = random.Random(0)
    reference = np.stack([REFERENCES[name](generator) for _ in range(1500)])
    reference = reference.reshape(-1, 8, 32, 8, 32).mean((2, 4))
    ours = blocks(name, 256, 5000 if name.startswith("pic") else 2000)
    assert abs(ratios(ours).mean() - ratios(reference).mean()) < 0.015
    quantiles = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(
        np.quantile(ratios(ours), quantiles),
        np.quantile(ratios(reference), quantiles),
        atol=0.03,
    )
    for axis in (1, 2):
        rows, expected = ours.mean((0, axis)), reference.mean((0, axis))
        np.testing.assert_allclose(rows, expected, atol=0.03)


def test_strokes_of_the_free_form_mask():
    def strokes(seed, size):
        points, segments, radius = brush_strokes(seed, 1, (4, 11), (12, 39))
        return drawing.polylines(points, segments, radius, radius, size)

    generator = random.Random(1)
    ours = ratios(each_seed(strokes, 256, 2000, lambda mask: mask))
    reference = [brush_reference(generator, 1, (4, 11), (12, 39)).mean() for _ in range(2000)]
    quantiles = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(
        np.quantile(ours, quantiles), np.quantile(reference, quantiles), atol=0.008
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [64, 512])
def test_hole_ratio_does_not_depend_on_the_size(name, size):
    count = 200
    expected = ratios(blocks(name, 256, count)).mean()
    assert abs(ratios(blocks(name, size, count)).mean() - expected) < 0.02


@pytest.mark.parametrize("name", ["pic_irregular", "free_form", "lama", "mat"])
def test_shapes_scale_with_the_picture(name):
    large, small = drawn(name, 256, 200), drawn(name, 64, 200)
    share = large.reshape(200, 64, 4, 64, 4).mean((2, 4))
    certain = (share == 0.0) | (share == 1.0)
    assert certain.mean() > 0.7
    # A slit between shapes can lie between the finer pixels.
    assert np.mean(small[certain] != share[certain]) < 1e-4


def test_pic_takes_each_sampler_half_of_the_time():
    values = ratios(blocks("pic", 64, 500))
    expected = np.concatenate(
        [ratios(blocks(name, 64, 2000)) for name in ("pic_regular", "pic_irregular")]
    )
    assert abs(values.mean() - expected.mean()) < 0.03
    assert abs(values.std() - expected.std()) < 0.02


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


@pytest.mark.parametrize("name", LAMA_EVALUATION)
def test_lamas_evaluation_masks_are_at_most_half_hole(name):
    values = ratios(blocks(name, 64, 2000))
    assert 0.4 < values.max() <= 0.5


def test_mats_masks_have_holes_and_known_pixels():
    values = ratios(blocks("mat", 64, 2000))
    assert 0.0 < values.min() < 0.01
    assert values.max() < 1.0


@pytest.mark.parametrize("threshold", [0.0, 0.9, 1.0])
def test_redraw_keeps_the_first_accepted_mask_or_the_last(threshold):
    seed, attempts = tf.constant([5, 6]), 7

    def draw(seed):
        return tf.fill([4, 4, 1], tf.random.stateless_uniform([], seed))

    candidates = [draw(tf.random.fold_in(seed, k)).numpy() for k in range(attempts)]
    accepted = [k for k, mask in enumerate(candidates) if mask[0, 0, 0] >= threshold]
    expected = candidates[accepted[0] if accepted else -1]
    redraw = tf.function(drawing.redraw)
    result = redraw(draw, seed, 4, lambda ratio: ratio >= threshold, attempts)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("size", [40, 64])
def test_capsules_are_the_pixels_near_a_segment(size):
    rng = np.random.default_rng(0)
    start, end = rng.uniform(-10, size + 10, (2, 24, 2))
    end[:4] = start[:4]  # discs
    end[4:7, 0], end[7:10, 1] = start[4:7, 0], start[7:10, 1]  # along the axes
    radius = rng.uniform(0.6, 6.0, 24)
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    pixels = np.stack([x, y], -1)
    gap = np.full((size, size), np.inf)
    for a, b, r in zip(start, end, radius, strict=True):
        along = b - a
        share = np.clip((pixels - a) @ along / max(along @ along, 1e-12), 0.0, 1.0)
        distance = np.linalg.norm(pixels - a - share[..., None] * along, axis=-1)
        gap = np.minimum(gap, distance - r)
    floats = [value.astype(np.float32) for value in (start, end, radius, radius)]
    mask = drawing.capsules(*floats, size).numpy()[..., 0]
    clear = np.abs(gap) > 5e-3
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(mask[clear], gap[clear] < 0.0)


def test_capsules_with_smaller_ends_are_bands_with_discs():
    shape = [[8.2, 16.5]], [[24.8, 16.5]], [4.4], [3.4]
    mask = drawing.capsules(*map(tf.constant, shape), 32).numpy()[..., 0]
    y, x = np.mgrid[:32, :32] + 0.5
    band = (x > 8.2) & (x < 24.8) & (np.abs(y - 16.5) < 4.4)
    ends = (np.hypot(x - 8.2, y - 16.5) < 3.4) | (np.hypot(x - 24.8, y - 16.5) < 3.4)
    np.testing.assert_array_equal(mask, band | ends)


def test_boxes_are_half_open_and_may_be_empty():
    low = [[2.0, 3.0], [10.0, -4.0], [5.0, 5.0], [0.0, 0.0]]
    high = [[4.0, 9.0], [40.0, 2.0], [5.0, 9.0], [-1.0, 20.0]]
    expected = np.zeros((32, 32, 1))
    expected[2:4, 3:9] = 1
    expected[10:, :2] = 1
    np.testing.assert_array_equal(drawing.boxes(tf.constant(low), tf.constant(high), 32), expected)


def test_walks_have_whole_points_within_the_lattice():
    rng = np.random.default_rng(0)
    start = rng.integers(0, 256, (6, 2)).astype(np.float32)
    steps = rng.normal(0.0, 90.0, (6, 9, 2)).astype(np.float32)
    points = drawing.walk(start, steps).numpy()
    assert points.shape == (6, 10, 2)
    for chain in range(6):
        for axis in range(2):
            place = start[chain, axis]
            for vertex in range(10):
                assert points[chain, vertex, axis] == place
                if vertex < 9:
                    place = within(np.float32(place) + steps[chain, vertex, axis])
    assert {0.0, 256.0} < set(points.ravel())


def graph_operations(dataset):
    """Names of all operations of a serialised tf.data pipeline; fails if it keeps a state."""
    variant = tf.data.experimental.to_variant(dataset)
    serialised = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=2)
    graph = tf.compat.v1.GraphDef.FromString(serialised.numpy())
    functions = [node for function in graph.library.function for node in function.node_def]
    return {node.op for node in [*graph.node, *functions]}


@pytest.mark.parametrize("name", [*NAMES, "pic:0.7,lama:0.3"])
def test_a_pipeline_of_masks_serialises_without_python(name):
    def draw(index):
        return masks.sampler(name)(tf.stack([3, index]), 64)

    indices = tf.data.Dataset.range(4, output_type=tf.int32)
    operations = graph_operations(indices.map(draw, num_parallel_calls=2))
    assert any(operation.startswith("StatelessRandom") for operation in operations)
    assert not any("Py" in operation for operation in operations)


def test_python_in_a_pipeline_would_be_seen():
    indices = tf.data.Dataset.range(4)
    python = indices.map(lambda index: tf.numpy_function(np.square, [index], tf.int64))
    with pytest.raises(tf.errors.OpError):
        graph_operations(python)


def test_mixture_draws_each_sampler_by_its_weight():
    names = ("lama_thin", "pic_irregular", "lama_medium")
    values = ratios(blocks("lama_thin:3,pic_irregular:1,lama_medium:1", 64, 2000))
    parts = [ratios(blocks(name, 64, 2000)) for name in names]
    for bound in (0.1, 0.2, 0.35, 0.5):
        below = [np.mean(part < bound) for part in parts]
        assert abs(np.mean(values < bound) - np.dot(below, [0.6, 0.2, 0.2])) < 0.03


def test_weights_are_normalised_and_spaces_do_not_count():
    expected = drawn("pic_regular:0.75,lama:0.25", 32, 50)
    np.testing.assert_array_equal(drawn(" pic_regular : 3 , lama:1", 32, 50), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_alone_is_the_sampler(name):
    assert masks.sampler(name) is masks.SAMPLERS[name]
    assert masks.sampler(f"{name}:0.2") is masks.SAMPLERS[name]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "lacks a name"),
        ("pic:1,", "lacks a name"),
        ("blobs", "mask sampler 'blobs' is unknown; use one of pic_regular"),
        ("pic:0.5,blobs:0.5", "names 'blobs', which is unknown"),
        ("pic,lama", "'pic' the weight ''"),
        ("pic:0.5,lama", "'lama' the weight ''"),
        ("pic:much", "'pic' the weight 'much'"),
        ("pic:0,lama:1", "'pic' the weight '0'"),
        ("pic:-1,lama:1", "'pic' the weight '-1'"),
        ("pic:nan,lama:1", "'pic' the weight 'nan'"),
        ("pic:inf,lama:1", "'pic' the weight 'inf'"),
        ("pic:1:2,lama:1", "'pic' the weight '1:2'"),
        ("pic:0.5,pic:0.5", "'pic' twice"),
    ],
)
def test_wrong_specs_are_refused(spec, reason):
    with pytest.raises(UserError) as caught:
        masks.sampler(spec)
    message = str(caught.value)
    assert message.startswith(f"mask sampler {spec!r}")
    assert reason in message
    assert all(name in message for name in NAMES)
    assert "\n" not in message


@pytest.mark.parametrize("name", NAMES)
def test_descriptions_state_the_mean_hole_ratio(name):
    assert list(masks.DESCRIPTIONS) == list(masks.SAMPLERS)
    stated = float(masks.DESCRIPTIONS[name].rsplit(" ", 1)[1])
    mean = np.mean([PUBLISHED["pic_regular"][0], PUBLISHED["pic_irregular"][0]])
    assert abs(stated - PUBLISHED.get(name, (mean,))[0]) <= 0.0051


def test_center_mask_is_the_one_of_holes():
    assert masks.center_mask is center_mask
