"""Masks of LaMa (Suvorov et al., Resolution-robust Large Mask Inpainting, WACV 2022).

At 256 px a mask is U{m..n} chains of U{1..5} thick segments, whose direction is
±(0.01 + U{0..3}) radians, or it is U{m..n} boxes:

| sampler | chains | length | thickness | boxes | side | off the border | mean hole ratio |
| --- | --- | --- | --- | --- | --- | --- | --- |
| lama: training, half each | 1..6 | 10..209 | 5..104 | 1..4 | 30..150 | 10 | 0.35 |
| lama_thin | 4..51 | 10..49 | 5..14 | none | | | 0.29 |
| lama_medium | 4..6 | 10..109 | 5..54 | 1..5 | 10..50 | 0 | 0.24 |
| lama_thick | 1..6 | 10..209 | 5..104 | 1..3 | 30..150 | 10 | 0.27 |

The last three are those of evaluation, chains with probability 1/1.3. LaMa drops those with more
than half of the picture in the hole; here such a mask is drawn again from the same seed's next
attempt, up to 32 masks in all. One thick mask in three is; the chance that the last mask is more
than half hole is below 1e-14.
"""

import functools
from typing import NamedTuple

from gmsrm_jax.data.masks.samplers.drawing import (
    LATTICE,
    Sampler,
    boxes,
    integers,
    mixture,
    polylines,
    redraw,
    walk,
)
from gmsrm_jax.data.tensorflow_cpu import tf

_MAX_SEGMENTS = 5
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


_MAX_RATIO = 0.5
_EVALUATION = 1.0 / 1.3  # weight 1 for chains, 0.3 for boxes
# LaMa's `max_times` m of chains means m + 1, its lengths are 10 + U{0..max_len - 1} and its widths
# 5 + U{0..max_width - 1}.
_THIN = _Chains((4, 51), (10, 49), (5, 14))
_MEDIUM = _Chains((4, 6), (10, 109), (5, 54))
_THICK = _Chains((1, 6), (10, 209), (5, 104))
_MEDIUM_BOXES = _Boxes((1, 5), (10, 50), 0)
_THICK_BOXES = _Boxes((1, 3), (30, 150), 10)
_TRAINING_BOXES = _Boxes((1, 4), (30, 150), 10)


def _capped(draw: Sampler) -> Sampler:
    def capped(seed: tf.Tensor, size: int) -> tf.Tensor:
        return redraw(
            lambda attempt: draw(attempt, size),
            seed,
            size,
            lambda ratio: ratio <= _MAX_RATIO,
            _ATTEMPTS,
        )

    return capped


def _either(chains: _Chains, rectangles: _Boxes, chains_share: float) -> Sampler:
    draw_chains = functools.partial(_draw_chains, ranges=chains)
    draw_boxes = functools.partial(_draw_boxes, ranges=rectangles)
    return mixture([draw_chains, draw_boxes], [chains_share])


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


lama = _either(_THICK, _TRAINING_BOXES, 0.5)
lama_thin = _capped(functools.partial(_draw_chains, ranges=_THIN))
lama_medium = _capped(_either(_MEDIUM, _MEDIUM_BOXES, _EVALUATION))
lama_thick = _capped(_either(_THICK, _THICK_BOXES, _EVALUATION))
