"""Masks of LaMa (Suvorov et al., Resolution-robust Large Mask Inpainting, WACV 2022).

Two kinds of masks, chains of thick segments and boxes, with ranges of their own for training and
for LaMa's three evaluation sets. The evaluation sets drop masks with more than half of the picture
in the hole; here such a mask is drawn again from the same seed's next attempt.
"""

from collections.abc import Callable
from typing import NamedTuple

from gmsrm_jax.data.masks.samplers.drawing import LATTICE, boxes, integers, polylines, redraw, walk
from gmsrm_jax.data.tensorflow_cpu import tf

_MAX_SEGMENTS = 5
_MAX_RATIO = 0.5
_ATTEMPTS = 32


class _Chains(NamedTuple):
    """Ranges at 256 px, both ends included."""

    number: tuple[int, int]
    length: tuple[int, int]
    width: tuple[int, int]


class _Boxes(NamedTuple):
    """Ranges at 256 px, both ends included; `margin` is kept free at the picture's border."""

    number: tuple[int, int]
    side: tuple[int, int]
    margin: int


# LaMa's `max_times` m of chains means m + 1, its lengths are 10 + U{0..max_len - 1} and its widths
# 5 + U{0..max_width - 1}.
_THIN = _Chains((4, 51), (10, 49), (5, 14))
_MEDIUM = _Chains((4, 6), (10, 109), (5, 54))
_THICK = _Chains((1, 6), (10, 209), (5, 104))
_MEDIUM_BOXES = _Boxes((1, 5), (10, 50), 0)
_THICK_BOXES = _Boxes((1, 3), (30, 150), 10)
_TRAINING_BOXES = _Boxes((1, 4), (30, 150), 10)
_EVALUATION_CHAINS = 1.0 / 1.3  # weight 1 for chains, 0.3 for boxes


def lama(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Draws the training masks of LaMa's 256 px models: chains or boxes, each with probability 0.5.

    At 256 px: U{1..6} chains of U{1..5} segments, each of length U{10..209} and thickness
    U{5..104}; or U{1..4} boxes with sides U{30..150}, 10 px off the border. A segment's direction
    is ±(0.01 + U{0..3}) radians. Mean hole ratio 0.35.

    Args:
        seed: int32 [2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1], 1 in the hole.
    """
    return _either(seed, size, _THICK, _TRAINING_BOXES, 0.5)


def lama_thin(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Draws LaMa's thin evaluation masks, of which at most half is hole.

    At 256 px: U{4..51} chains as in `lama`, of length U{10..49} and thickness U{5..14}. Drawn
    again, up to 32 masks in all, while more than half is hole; the chance that the last mask is
    so too is below 1e-40. Mean hole ratio 0.29.

    Args:
        seed: int32 [2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1], 1 in the hole.
    """
    return _capped(lambda attempt: _draw_chains(attempt, size, _THIN), seed, size)


def lama_medium(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Draws LaMa's medium evaluation masks, of which at most half is hole.

    At 256 px: with probability 1/1.3 U{4..6} chains as in `lama`, of length U{10..109} and
    thickness U{5..54}; else U{1..5} boxes with sides U{10..50}. Drawn again as in `lama_thin`.
    Mean hole ratio 0.24.

    Args:
        seed: int32 [2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1], 1 in the hole.
    """
    return _capped(
        lambda attempt: _either(attempt, size, _MEDIUM, _MEDIUM_BOXES, _EVALUATION_CHAINS),
        seed,
        size,
    )


def lama_thick(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Draws LaMa's thick evaluation masks, of which at most half is hole.

    At 256 px: with probability 1/1.3 the chains of `lama`; else U{1..3} of its boxes. Drawn again
    as in `lama_thin`; one mask in three is, and the chance that the last mask is more than half
    hole is below 1e-14. Mean hole ratio 0.27.

    Args:
        seed: int32 [2].
        size: side S in pixels.

    Returns:
        float32 [S, S, 1], 1 in the hole.
    """
    return _capped(
        lambda attempt: _either(attempt, size, _THICK, _THICK_BOXES, _EVALUATION_CHAINS),
        seed,
        size,
    )


def _capped(draw: Callable[[tf.Tensor], tf.Tensor], seed: tf.Tensor, size: int) -> tf.Tensor:
    return redraw(draw, seed, size, lambda ratio: ratio <= _MAX_RATIO, _ATTEMPTS)


def _either(
    seed: tf.Tensor, size: int, chains: _Chains, rectangles: _Boxes, chains_share: float
) -> tf.Tensor:
    """Draws chains with probability `chains_share`, else boxes."""
    choice, mask = tf.unstack(tf.random.split(seed, 2))
    return tf.cond(
        tf.random.stateless_uniform([], choice) < chains_share,
        lambda: _draw_chains(mask, size, chains),
        lambda: _draw_boxes(mask, size, rectangles),
    )


def _draw_chains(seed: tf.Tensor, size: int, ranges: _Chains) -> tf.Tensor:
    seeds = tf.unstack(tf.random.split(seed, 6))
    most = ranges.number[1]
    each = [most, _MAX_SEGMENTS]
    count = integers(seeds[0], [], *map(float, ranges.number))
    start = integers(seeds[1], [most, 2], 0.0, LATTICE - 1.0)
    segments = integers(seeds[2], [most], 1.0, float(_MAX_SEGMENTS))
    angle = 0.01 + integers(seeds[3], each, 0.0, 3.0)
    length = integers(seeds[4], each, *map(float, ranges.length))
    width = integers(seeds[5], each, *map(float, ranges.width))

    chain = tf.range(float(most))
    segments = tf.where(chain < count, segments, 0.0)
    side = tf.where(chain % 2.0 == 0.0, -1.0, 1.0)[:, None]
    steps = length[..., None] * tf.stack([side * tf.sin(angle), tf.cos(angle)], -1)
    # OpenCV, which LaMa draws with, rounds half of a thickness up. It then draws a band that has
    # the pixels on its border too, and discs of that radius around its ends.
    radius = tf.math.ceil(width / 2.0)
    return polylines(walk(start, steps), segments, radius + 0.5, radius, size)


def _draw_boxes(seed: tf.Tensor, size: int, ranges: _Boxes) -> tf.Tensor:
    seeds = tf.unstack(tf.random.split(seed, 3))
    shape = [ranges.number[1], 2]
    count = tf.cast(integers(seeds[0], [], *map(float, ranges.number)), tf.int32)
    side = integers(seeds[1], shape, *map(float, ranges.side))
    margin = float(ranges.margin)
    corner = integers(seeds[2], shape, margin, LATTICE - margin - side)
    scale = size / LATTICE
    return boxes(corner[:count] * scale, (corner + side)[:count] * scale, size)
