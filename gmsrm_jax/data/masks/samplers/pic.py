"""Masks of PIC (Zheng et al., Pluralistic Image Completion, CVPR 2019), GM-SRM's training masks."""

import math

from gmsrm_jax.data.masks.samplers.drawing import (
    LATTICE,
    arc_chords,
    boxes,
    capsules,
    integers,
    mixture,
)
from gmsrm_jax.data.tensorflow_cpu import tf

_MAX_RECTANGLES = 5
_MAX_SHAPES = 64


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
    count = integers(seeds[0], [], 1.0, float(_MAX_RECTANGLES))
    shape = [_MAX_RECTANGLES, 2]  # (row, column) of each rectangle
    corner = integers(seeds[1], shape, 0.0, tf.floor(size - size / (count + 1.0)))
    extent = integers(seeds[2], shape, tf.floor(size / (count + 7.0)), size - corner)
    drawn = tf.cast(count, tf.int32)
    return boxes(corner[:drawn], (corner + extent)[:drawn], size)


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
    count = integers(seeds[0], [], 16.0, float(_MAX_SHAPES))
    drawn = tf.range(_MAX_SHAPES, dtype=tf.float32) < count
    kind = tf.random.stateless_uniform([_MAX_SHAPES], seeds[1])
    points = integers(seeds[2], [_MAX_SHAPES, 4], 1.0, LATTICE)
    angles = integers(seeds[3], [_MAX_SHAPES, 3], 3.0, 180.0)
    width = integers(seeds[4], [_MAX_SHAPES], 4.0, 20.0)

    first, second = points[:, :2], points[:, 2:]
    is_disc = (kind >= 0.6) & (kind < 0.8)
    straight = drawn & (kind < 0.8)
    curved = drawn & (kind >= 0.8)
    start, end, arc = arc_chords(first[curved], second[curved], angles[curved] * (math.pi / 180.0))
    starts = tf.concat([first[straight], start], 0)
    ends = tf.concat([tf.where(is_disc[:, None], first, second)[straight], end], 0)
    # OpenCV, which PIC draws with, rounds half of a thickness up and adds the pixel on the border.
    radii = tf.where(is_disc, width, tf.math.ceil(width / 2.0) + 0.5)
    radii = tf.concat([radii[straight], tf.gather(radii[curved], arc)], 0)
    # Pixel i of the lattice has its centre at i + 0.5 of the picture's extent.
    scale = size / LATTICE
    radii = radii * scale
    return capsules((starts + 0.5) * scale, (ends + 0.5) * scale, radii, radii, size)


pic = mixture([pic_regular, pic_irregular], [0.5])
"""Draws one of the two, each with probability 0.5. Mean hole ratio 0.42."""
