"""Masks of MAT (Li et al., Mask-Aware Transformer for Large Hole Image Inpainting, CVPR 2022)."""

from gmsrm_jax.data.masks.samplers.drawing import LATTICE, boxes, integers, polylines, redraw
from gmsrm_jax.data.masks.samplers.free_form import brush_strokes
from gmsrm_jax.data.tensorflow_cpu import tf

_MAX_STROKES = 7
# MAT draws a mask without a hole (1 in 60) or without a known pixel again.
_ATTEMPTS = 16


def mat(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Draws boxes and brush strokes (MAT's mask of its 256 px models).

    At 256 px: U{0..3} boxes with sides U{0..127}, U{0..1} boxes with sides U{0..255}, each corner
    from -floor(side/2) to 255 - side + floor(side/2), so that they may stick out; and U{0..7} of
    DeepFillV2's strokes with 4..17 segments and thickness 12..47, mirrored on each axis with
    probability 0.5. A mask of hole ratio 0 or 1 is drawn again, up to 16 masks in all; the chance
    that the last is one too is below 1e-27. Mean hole ratio 0.40.

    Args:
        seed: int32 [2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1], 1 in the hole.
    """
    return redraw(
        lambda attempt: _boxes_and_strokes(attempt, size),
        seed,
        size,
        lambda ratio: (ratio > 0.0) & (ratio < 1.0),
        _ATTEMPTS,
    )


def _boxes_and_strokes(seed: tf.Tensor, size: int) -> tf.Tensor:
    """One mask, with no regard to its hole ratio."""
    seeds = tf.unstack(tf.random.split(seed, 6))
    counts = integers(seeds[0], [3], 0.0, tf.constant([3.0, 1.0, float(_MAX_STROKES)]))
    side = integers(seeds[1], [4, 2], 0.0, tf.constant([[127.0]] * 3 + [[255.0]]))
    half = tf.floor(side / 2.0)
    corner = integers(seeds[2], [4, 2], -half, LATTICE - 1.0 - side + half)
    drawn = tf.stack([0.0, 1.0, 2.0, 0.0]) < tf.gather(counts, [0, 0, 0, 1])
    scale = size / LATTICE
    high = tf.where(drawn[:, None], corner + side, corner)
    hole = boxes(corner * scale, high * scale, size)

    points, segments, radius = brush_strokes(seeds[3], _MAX_STROKES, (4, 17), (12, 47))
    mirrored = tf.random.stateless_uniform([2], seeds[4]) < 0.5
    points = tf.where(mirrored, LATTICE - 1.0 - points, points)
    segments = tf.where(tf.range(float(_MAX_STROKES)) < counts[2], segments, 0.0)
    return tf.maximum(hole, polylines(points, segments, radius, radius, size))
