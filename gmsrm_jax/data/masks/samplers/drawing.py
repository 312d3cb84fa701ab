"""Shapes as TensorFlow ops: chains of line segments, arcs, boxes, and drawing until one fits.

Thick lines, discs and arcs are all unions of capsules, that is of the points within a radius of a
line segment. A capsule is convex, so each pixel row meets it in one interval; the rows of the union
come from a running sum over the ends of those intervals. The work is then one interval per capsule
and row, not one distance per capsule and pixel.

A pixel is in a shape if its centre is; pixel i covers i to i + 1. Published generators draw whole
pixels of a 256 px lattice; `LATTICE` is its side, and a length of it scales by size/`LATTICE`.
"""

import functools
import math
from collections.abc import Callable, Sequence

from gmsrm_jax.data.tensorflow_cpu import tf

Sampler = Callable[[tf.Tensor, int], tf.Tensor]

LATTICE = 256.0
# An arc is drawn as chords of at most this many degrees; at the largest half-axis, 256 px, a chord
# then leaves the arc by 0.35 px.
_CHORD_DEGREES = 6.0
# Columns that one product with a triangular matrix sums; faster than a running sum of whole rows.
_BLOCK = 16


def integers(
    seed: tf.Tensor, shape: list[int], low: float | tf.Tensor, high: float | tf.Tensor
) -> tf.Tensor:
    """Draws whole numbers from low to high, both included, as float32 of the given shape."""
    uniform = tf.random.stateless_uniform(shape, seed)
    return tf.minimum(low + tf.floor(uniform * (high - low + 1.0)), high)


def mixture(samplers: Sequence[Sampler], bounds: Sequence[float]) -> Sampler:
    """Draws by sampler i where a uniform number is from bounds[i - 1] to below bounds[i]."""

    def draw(seed: tf.Tensor, size: int) -> tf.Tensor:
        choice, mask = tf.unstack(tf.random.split(seed, 2))
        uniform = tf.random.stateless_uniform([], choice)
        index = tf.reduce_sum(tf.cast(uniform >= tf.constant(bounds), tf.int32))
        return tf.switch_case(index, [functools.partial(one, mask, size) for one in samplers])

    return draw


def redraw(
    draw: Callable[[tf.Tensor], tf.Tensor],
    seed: tf.Tensor,
    size: int,
    accepted: Callable[[tf.Tensor], tf.Tensor],
    attempts: int,
) -> tf.Tensor:
    """Draws masks until the hole ratio of one is accepted; after the last attempt keeps its mask.

    Args:
        draw: seed int32 [2] -> float32 [S, S, 1]; attempt k gets the seed folded with k.
        seed: int32 [2].
        size: side S in pixels.
        accepted: hole ratio, float32 [] -> bool [].
        attempts: the most masks drawn.

    Returns:
        float32 [S, S, 1].
    """

    def again(attempt: tf.Tensor, _: tf.Tensor, done: tf.Tensor) -> tf.Tensor:
        return ~done & (attempt < attempts)

    def body(attempt: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        mask = draw(tf.random.fold_in(seed, attempt))
        return attempt + 1, mask, accepted(tf.reduce_mean(mask))

    start = (tf.constant(0), tf.zeros([size, size, 1]), tf.constant(False))
    return tf.while_loop(again, body, start)[1]


def walk(start: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Joins steps to polylines whose points are whole and stay in 0..256 on both axes.

    Point v + 1 is clip(floor(point v + step v), 0, 256), as the published generators walk.

    Args:
        start: [C, 2] (x, y) on the lattice.
        steps: [C, V, 2].

    Returns:
        [C, V + 1, 2].
    """
    points = [start]
    for step in tf.unstack(steps, axis=1):
        points.append(tf.clip_by_value(tf.floor(points[-1] + step), 0.0, LATTICE))
    return tf.stack(points, 1)


def polylines(
    points: tf.Tensor, segments: tf.Tensor, radius: tf.Tensor, end_radius: tf.Tensor, size: int
) -> tf.Tensor:
    """Draws the union of thick polylines with round ends and joints.

    Args:
        points: [C, V + 1, 2] (x, y), pixels of the lattice.
        segments: [C] how many segments, 0..V, are drawn of each polyline.
        radius: [C, V] half of each segment's thickness on the lattice.
        end_radius: [C, V] of each segment's round ends, see `capsules`.
        size: side S in pixels.

    Returns:
        float32 [S, S, 1].
    """
    drawn = tf.where(tf.range(radius.shape[1], dtype=tf.float32) < segments[:, None])
    # Pixel i of the lattice has its centre at i + 0.5 of the picture's extent.
    scale = size / LATTICE
    place = (points + 0.5) * scale
    return capsules(
        tf.gather_nd(place[:, :-1], drawn),
        tf.gather_nd(place[:, 1:], drawn),
        tf.gather_nd(radius * scale, drawn),
        tf.gather_nd(end_radius * scale, drawn),
        size,
    )


def boxes(low: tf.Tensor, high: tf.Tensor, size: int) -> tf.Tensor:
    """Draws the union of boxes, low <= x < high on both axes; empty where high <= low.

    Args:
        low: [K, 2] (row, column) in pixels.
        high: [K, 2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1].
    """
    pixel = tf.range(size, dtype=tf.float32) + 0.5
    inside = tf.cast((pixel >= low[..., None]) & (pixel < high[..., None]), tf.float32)
    count = tf.matmul(inside[:, 0], inside[:, 1], transpose_a=True)
    return tf.cast(count > 0.5, tf.float32)[..., None]


def arc_chords(
    centre: tf.Tensor, half_axes: tf.Tensor, angles: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cuts elliptic arcs into chords.

    Args:
        centre: [A, 2] (x, y).
        half_axes: [A, 2].
        angles: [A, 3] rotation of the ellipse and the two ends of the arc, in radians.

    Returns:
        start [C, 2] and end [C, 2] of all chords, and the arc [C] that each belongs to.
    """
    low = tf.minimum(angles[:, 1], angles[:, 2])
    span = tf.abs(angles[:, 1] - angles[:, 2])
    chords = tf.math.ceil(span / (_CHORD_DEGREES * math.pi / 180.0))
    counts = tf.maximum(tf.cast(chords, tf.int32), 1)
    arc = tf.repeat(tf.range(tf.shape(counts)[0]), counts)
    step = tf.range(tf.shape(arc)[0]) - tf.gather(tf.cumsum(counts, exclusive=True), arc)
    step_angle = tf.gather(span / tf.cast(counts, tf.float32), arc)
    angle = tf.gather(low, arc) + tf.cast(step, tf.float32) * step_angle
    rotation = tf.gather(angles[:, 0], arc)
    origin, axes = tf.gather(centre, arc), tf.gather(half_axes, arc)

    def point(angle: tf.Tensor) -> tf.Tensor:
        along, across = axes[:, 0] * tf.cos(angle), axes[:, 1] * tf.sin(angle)
        cosine, sine = tf.cos(rotation), tf.sin(rotation)
        turned = tf.stack([along * cosine - across * sine, along * sine + across * cosine], 1)
        return origin + turned

    return point(angle), point(angle + step_angle), arc


def capsules(
    start: tf.Tensor, end: tf.Tensor, radius: tf.Tensor, end_radius: tf.Tensor, size: int
) -> tf.Tensor:
    """Draws the union of capsules.

    The round ends may differ from the band between them by about a pixel, as OpenCV draws a thick
    line; a row that meets both is filled from the first to the last pixel.

    Args:
        start: [K, 2] (x, y) of one end of each segment, in pixels.
        end: [K, 2].
        radius: [K] half of the width of the band.
        end_radius: [K] of the discs around the ends.
        size: side S in pixels.

    Returns:
        float32 [S, S, 1].
    """
    y = tf.range(size, dtype=tf.float32)[None, :] + 0.5
    x0, y0 = start[:, :1], start[:, 1:]
    x1, y1 = end[:, :1], end[:, 1:]
    r, end_r = radius[:, None], end_radius[:, None]
    # The band between the ends: |cross| <= r·length and 0 <= dot <= length², each of which bounds x
    # in a row. Segments along an axis are turned by a thousandth of a pixel to keep both solvable.
    dx = tf.where(tf.abs(x1 - x0) < 1e-3, 1e-3, x1 - x0)
    dy = tf.where(tf.abs(y1 - y0) < 1e-3, 1e-3, y1 - y0)
    length = tf.sqrt(dx * dx + dy * dy)
    middle, reach = x0 + (y - y0) * (dx / dy), tf.abs(r * length / dy)
    foot = x0 - (y - y0) * (dy / dx)
    far = foot + length * length / dx
    left = tf.maximum(middle - reach, tf.minimum(foot, far))
    right = tf.minimum(middle + reach, tf.maximum(foot, far))
    empty = left > right
    left, right = tf.where(empty, 2.0 * size, left), tf.where(empty, -1.0, right)
    for x, centre in ((x0, y0), (x1, y1)):
        square = end_r * end_r - (y - centre) ** 2
        half = tf.sqrt(tf.maximum(square, 0.0))
        left = tf.minimum(left, tf.where(square < 0.0, 2.0 * size, x - half))
        right = tf.maximum(right, tf.where(square < 0.0, -1.0, x + half))

    # First pixel whose centre is in the interval, and the first one behind it.
    first = tf.cast(tf.clip_by_value(tf.math.ceil(left - 0.5), 0.0, float(size)), tf.int32)
    behind = tf.cast(tf.clip_by_value(tf.floor(right + 0.5), 0.0, float(size)), tf.int32)
    return _fill(first, tf.maximum(behind, first), size)


def _fill(first: tf.Tensor, behind: tf.Tensor, size: int) -> tf.Tensor:
    """Fills intervals of pixels.

    Args:
        first: int32 [K, S], for each shape and row the first column, 0..S.
        behind: int32 [K, S], the column behind the last one, first..S.
        size: side S in pixels.

    Returns:
        float32 [S, S, 1].
    """
    blocks = size // _BLOCK + 1  # with room for column S
    row = tf.range(size)[None, :] * (blocks * _BLOCK)
    # unsorted_segment_sum is several times faster here than bincount and scatter_nd.
    begins, ends = (
        tf.math.unsorted_segment_sum(
            tf.ones_like(column, tf.float32), row + column, num_segments=size * blocks * _BLOCK
        )
        for column in (first, behind)
    )
    triangle = tf.linalg.band_part(tf.ones([_BLOCK, _BLOCK]), 0, -1)
    within = tf.matmul(tf.reshape(begins - ends, [size * blocks, _BLOCK]), triangle)
    within = tf.reshape(within, [size, blocks, _BLOCK])
    depth = within + tf.cumsum(within[..., -1:], axis=1, exclusive=True)
    hole = tf.reshape(depth > 0.5, [size, blocks * _BLOCK])[:, :size]
    return tf.cast(hole, tf.float32)[..., None]
