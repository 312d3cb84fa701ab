"""Random training masks as TensorFlow ops: stateless, at any size, 1 = hole.

Every sampler is a pure function of its seed and runs inside `tf.data`. Lengths are given at 256 px
and scale by size/256, so that the share of the hole does not depend on the size. The ranges are
those of PIC (Zheng et al., Pluralistic Image Completion, CVPR 2019).

PIC's irregular shapes - thick lines, discs and elliptic arcs - are all unions of capsules, that is
of the points within a radius of a line segment. A capsule is convex, so each pixel row meets it in
one interval; the rows of the union come from a running sum over the ends of those intervals. The
work is then one interval per capsule and row, not one distance per capsule and pixel.
"""

import math
from collections.abc import Callable

from gmsrm_jax.data.tensorflow_cpu import tf
from gmsrm_jax.holes import center_mask

__all__ = ["SAMPLERS", "center_mask", "pic", "pic_irregular", "pic_regular"]

_MAX_RECTANGLES = 5
_MAX_SHAPES = 64
# An arc is drawn as chords of at most this many degrees; at the largest half-axis, 256 px, a chord
# then leaves the arc by 0.35 px.
_CHORD_DEGREES = 6.0


def pic_regular(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Draws the union of U{1..5} rectangles (PIC's random regular mask).

    With N rectangles each corner is U{0..floor(S - S/(N+1))} and each side runs from
    U{floor(S/(N+7))..S - corner}. Mean hole ratio 0.30.

    Args:
        seed: int32 [2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1], 1 in the hole.
    """
    seeds = tf.unstack(tf.random.split(seed, 3))
    count = _integer(seeds[0], [], 1.0, float(_MAX_RECTANGLES))
    shape = [_MAX_RECTANGLES, 2]  # (row, column) of each rectangle
    corner = _integer(seeds[1], shape, 0.0, tf.floor(size - size / (count + 1.0)))
    extent = _integer(seeds[2], shape, tf.floor(size / (count + 7.0)), size - corner)
    pixel = tf.range(size, dtype=tf.float32)
    inside = (pixel >= corner[..., None]) & (pixel < (corner + extent)[..., None])
    drawn = tf.range(_MAX_RECTANGLES, dtype=tf.float32) < count
    rows = inside[:, 0] & drawn[:, None]
    hole = tf.reduce_any(rows[:, :, None] & inside[:, 1][:, None, :], axis=0)
    return tf.cast(hole, tf.float32)[..., None]


def pic_irregular(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Draws the union of U{16..64} thick shapes (PIC's random irregular mask).

    At 256 px, each shape is with probability
    0.6 a line: ends U{1..256}², thickness U{4..20};
    0.2 a disc: centre U{1..256}², radius U{4..20};
    0.2 the outline of an elliptic arc: centre U{1..256}², half-axes U{1..256}, rotation, start and
    end angle U{3..180} degrees, thickness U{4..20}. Mean hole ratio 0.53.

    Args:
        seed: int32 [2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1], 1 in the hole.
    """
    seeds = tf.unstack(tf.random.split(seed, 5))
    count = _integer(seeds[0], [], 16.0, float(_MAX_SHAPES))
    drawn = tf.range(_MAX_SHAPES, dtype=tf.float32) < count
    kind = tf.random.stateless_uniform([_MAX_SHAPES], seeds[1])
    points = _integer(seeds[2], [_MAX_SHAPES, 4], 1.0, 256.0)
    angles = _integer(seeds[3], [_MAX_SHAPES, 3], 3.0, 180.0)
    width = _integer(seeds[4], [_MAX_SHAPES], 4.0, 20.0)

    first, second = points[:, :2], points[:, 2:]
    is_disc = (kind >= 0.6) & (kind < 0.8)
    straight = drawn & (kind < 0.8)
    curved = drawn & (kind >= 0.8)
    start, end, arc = _arc_chords(first[curved], second[curved], angles[curved] * (math.pi / 180.0))
    starts = tf.concat([first[straight], start], 0)
    ends = tf.concat([tf.where(is_disc[:, None], first, second)[straight], end], 0)
    # OpenCV, which PIC draws with, rounds half of a thickness up and adds the pixel on the border.
    radii = tf.where(is_disc, width, tf.math.ceil(width / 2.0) + 0.5)
    radii = tf.concat([radii[straight], tf.gather(radii[curved], arc)], 0)
    # Pixel i of PIC's 256 px lattice has its centre at i + 0.5 of the picture's extent.
    scale = size / 256.0
    return _capsules((starts + 0.5) * scale, (ends + 0.5) * scale, radii * scale, size)


def pic(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Draws `pic_regular` or `pic_irregular`, each with probability 0.5.

    Args:
        seed: int32 [2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1], 1 in the hole.
    """
    choice, mask = tf.unstack(tf.random.split(seed, 2))
    return tf.cond(
        tf.random.stateless_uniform([], choice) < 0.5,
        lambda: pic_regular(mask, size),
        lambda: pic_irregular(mask, size),
    )


SAMPLERS: dict[str, Callable[[tf.Tensor, int], tf.Tensor]] = {
    "pic_regular": pic_regular,
    "pic_irregular": pic_irregular,
    "pic": pic,
}


def _integer(
    seed: tf.Tensor, shape: list[int], low: float | tf.Tensor, high: float | tf.Tensor
) -> tf.Tensor:
    """Draws whole numbers from low to high, both included, as float32 of the given shape."""
    uniform = tf.random.stateless_uniform(shape, seed)
    return tf.minimum(low + tf.floor(uniform * (high - low + 1.0)), high)


def _arc_chords(
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


def _capsules(start: tf.Tensor, end: tf.Tensor, radius: tf.Tensor, size: int) -> tf.Tensor:
    """Draws the union of capsules; a pixel is in the hole if its centre is in a capsule.

    Args:
        start: [K, 2] (x, y) of one end of each segment; pixel i covers i to i + 1.
        end: [K, 2].
        radius: [K].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1].
    """
    y = tf.range(size, dtype=tf.float32)[None, :] + 0.5
    x0, y0 = start[:, :1], start[:, 1:]
    x1, y1 = end[:, :1], end[:, 1:]
    r = radius[:, None]
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
        square = r * r - (y - centre) ** 2
        half = tf.sqrt(tf.maximum(square, 0.0))
        left = tf.minimum(left, tf.where(square < 0.0, 2.0 * size, x - half))
        right = tf.maximum(right, tf.where(square < 0.0, -1.0, x + half))

    # First pixel whose centre is in the interval, and the first one behind it.
    first = tf.cast(tf.clip_by_value(tf.math.ceil(left - 0.5), 0.0, float(size)), tf.int32)
    behind = tf.cast(tf.clip_by_value(tf.floor(right + 0.5), 0.0, float(size)), tf.int32)
    row = tf.range(size)[None, :] * (size + 1)
    # unsorted_segment_sum is several times faster here than bincount and scatter_nd.
    begins, stops = (
        tf.math.unsorted_segment_sum(
            tf.ones_like(column), row + column, num_segments=size * (size + 1)
        )
        for column in (first, tf.maximum(behind, first))
    )
    depth = tf.cumsum(tf.reshape(begins - stops, [size, size + 1]), axis=1)[:, :size]
    return tf.cast(depth > 0, tf.float32)[..., None]
