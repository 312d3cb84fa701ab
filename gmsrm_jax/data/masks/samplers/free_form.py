"""Masks of DeepFillV2 (Yu et al., Free-Form Image Inpainting with Gated Convolution, ICCV 2019)."""

import math

from gmsrm_jax.data.masks.samplers.drawing import LATTICE, boxes, integers, polylines, walk
from gmsrm_jax.data.tensorflow_cpu import tf

_MEAN_ANGLE = 2.0 * math.pi / 5.0
_ANGLE_RANGE = 2.0 * math.pi / 15.0
# An eighth of the diagonal; DeepFillV2 takes floor(mean / 2) as the deviation.
_MEAN_STEP = LATTICE * math.sqrt(2.0) / 8.0
_STEP_DEVIATION = _MEAN_STEP // 2.0


def free_form(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Draws a box and U{1..3} brush strokes (DeepFillV2's free-form mask).

    At 256 px, the box is 128 x 128 with a corner of U{0..127}², cut at its top and bottom by one
    U{0..16} and at its left and right by another. The strokes are `brush_strokes` of 4..11 segments
    and thickness 12..39. Mean hole ratio 0.31, of the strokes alone 0.15.

    Args:
        seed: int32 [2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1], 1 in the hole.
    """
    seeds = tf.unstack(tf.random.split(seed, 4))
    corner = integers(seeds[0], [1, 2], 0.0, 127.0)
    cut = integers(seeds[1], [1, 2], 0.0, 16.0)
    count = integers(seeds[2], [], 1.0, 3.0)
    scale = size / LATTICE
    box = boxes((corner + cut) * scale, (corner + 128.0 - cut) * scale, size)
    points, segments, radius = brush_strokes(seeds[3], 3, (4, 11), (12, 39))
    segments = tf.where(tf.range(3.0) < count, segments, 0.0)
    return tf.maximum(box, polylines(points, segments, radius, radius, size))


def brush_strokes(
    seed: tf.Tensor, count: int, segments: tuple[int, int], width: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Draws zigzag polylines on the lattice.

    A stroke starts at U{0..255}². Its steps have the length N(R, floor(R/2)²) clipped to 0..2R,
    with R = 256·√2/8, and the directions 2π - a, a, 2π - a, ..., each a ~ U(l, h), where
    l = 2π/5 - U(0, 2π/15) and h = 2π/5 + U(0, 2π/15) belong to the stroke.

    Args:
        seed: int32 [2].
        count: strokes C.
        segments: fewest and most segments V of a stroke.
        width: least and greatest thickness, in whole pixels of the lattice.

    Returns:
        points [C, V + 1, 2] (x, y), segments [C] of each stroke, radius [C, V]; see `polylines`.
    """
    seeds = tf.unstack(tf.random.split(seed, 6))
    most = segments[1]
    start = integers(seeds[0], [count, 2], 0.0, LATTICE - 1.0)
    drawn = integers(seeds[1], [count], float(segments[0]), float(most))
    # Pillow, which these masks are drawn with, takes a thickness as it is.
    radius = integers(seeds[2], [count, 1], float(width[0]), float(width[1])) / 2.0
    spread = _ANGLE_RANGE * tf.random.stateless_uniform([2, count, 1], seeds[3])
    share = tf.random.stateless_uniform([count, most], seeds[4])
    angle = _MEAN_ANGLE - spread[0] + share * (spread[0] + spread[1])
    turn = tf.constant([-1.0, 1.0] * most)[:most]
    length = tf.random.stateless_normal([count, most], seeds[5], _MEAN_STEP, _STEP_DEVIATION)
    length = tf.clip_by_value(length, 0.0, 2.0 * _MEAN_STEP)
    steps = length[..., None] * tf.stack([tf.cos(angle), turn * tf.sin(angle)], -1)
    return walk(start, steps), drawn, tf.repeat(radius, most, 1)
