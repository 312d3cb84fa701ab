"""A picture with a hole at several scales, each with a border of mirrored pixels.

"place" everywhere in this room is the index of a pixel in the flat padded level, row · stride +
column, so that a shift is one number and a neighbour is one addition.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

RADIUS = 3
"""Of a patch in pixels: patches are 7×7."""
BORDER = RADIUS + 1
"""Mirrored pixels on each side of a level: a patch around any pixel, or the one beside it, fits."""

_FIRST_DEPTH = 22.0  # pixels to the deepest hole pixel, about, on the first level
_LEAST_SIDE = 40
_LEAST_KNOWN = 0.5  # share of a cell below which the scaled-down pixel is hole


class Level(NamedTuple):
    """A padded picture at one scale; P = (h + 2 · BORDER) · stride.

    Attributes:
        height: rows h of the picture without its border.
        width: columns w of the picture without its border.
        stride: columns of the padded picture, w + 2 · BORDER.
        pixels: float32 [P, 3] in 0 … 255; holes hold the guide, or what was filled in.
        guide: float32 [P, 3], the network's filling.
        hole: bool [P], all that is unknown.
        own: bool [P], the part of the hole to be filled.
        source: bool [P], whether the patch around a place lies in the picture and is all known.
        depth: float32 [P], distance in pixels from a hole pixel to the nearest known one.
    """

    height: int
    width: int
    stride: int
    pixels: np.ndarray
    guide: np.ndarray
    hole: np.ndarray
    own: np.ndarray
    source: np.ndarray
    depth: np.ndarray

    def places(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Places of the picture's rows and columns, int64."""
        return (rows + BORDER) * self.stride + columns + BORDER

    def grid(self, values: np.ndarray) -> np.ndarray:
        """A flat array as the padded picture, a view [h + 2 · BORDER, stride, …]."""
        return values.reshape(-1, self.stride, *values.shape[1:])


def depth_of(hole: np.ndarray) -> np.ndarray:
    """Euclidean distance of each hole pixel to the nearest known one, float32, of any 2-D shape.

    The picture's border counts as a continuation, not as known. 0 where all is known, infinite
    where nothing is.
    """
    if hole.all():
        return np.full(hole.shape, np.inf, np.float32)
    return ndimage.distance_transform_edt(hole).astype(np.float32)


def number_of_levels(deepest: float, height: int, width: int) -> int:
    """How many levels, each half as large, until the hole's depth is about 22 pixels.

    Too coarse a first level loses the sources between the pieces of an irregular hole, too fine a
    one cannot bridge a deep hole: n = 1 + round(log2(deepest / 22)), sides of 40 pixels at least.
    """
    wanted = np.rint(np.log2(max(deepest / _FIRST_DEPTH, 1.0)))
    most = np.floor(np.log2(max(min(height, width) / _LEAST_SIDE, 1.0)))
    return 1 + int(min(wanted, most))


def make_level(picture: np.ndarray, hole: np.ndarray, own: np.ndarray, index: int) -> Level:
    """Scales a picture down by 2^index.

    Colours are averaged over the known pixels of each cell, I_j = box(I · known) / box(known); a
    pixel is hole where less than half of its cell is known.

    Args:
        picture: uint8 [H, W, 3]; its hole holds the guide.
        hole: bool [H, W].
        own: bool [H, W], a subset of the hole.
        index: 0 for full size.
    """
    height, width = (max(1, round(side / 2**index)) for side in hole.shape)
    filled = picture.astype(np.float32)
    if index == 0:
        known, pixels, wanted = (~hole).astype(np.float32), filled, own
    else:
        known = _box((~hole).astype(np.float32), height, width)
        pixels = _box(np.where(hole[..., None], np.float32(0), filled), height, width)
        pixels /= np.maximum(known, np.float32(1e-6))[..., None]
        filled = _box(filled, height, width)
        wanted = _box(own.astype(np.float32), height, width) > 0
    empty = known < _LEAST_KNOWN
    pixels = np.where(empty[..., None], filled, pixels)
    # Only what is unknown here can be filled here; finer levels see the rest.
    wanted = wanted & empty
    patch_known = ndimage.maximum_filter(empty, 2 * RADIUS + 1, mode="constant") == 0
    patch_known[:RADIUS], patch_known[-RADIUS:] = False, False
    patch_known[:, :RADIUS], patch_known[:, -RADIUS:] = False, False
    hole_around = _padded(empty)
    return Level(
        height,
        width,
        width + 2 * BORDER,
        _padded(pixels).reshape(-1, 3),
        _padded(filled).reshape(-1, 3),
        hole_around.ravel(),
        _padded(wanted).ravel(),
        np.pad(patch_known, BORDER).ravel(),
        depth_of(hole_around).ravel(),
    )


def _box(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mean of each cell, float32 [height, width, …], of float32 [H, W, …]."""
    if values.ndim == 3:
        return np.stack([_box(values[..., c], height, width) for c in range(3)], axis=-1)
    image = Image.fromarray(np.ascontiguousarray(values))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def _padded(values: np.ndarray) -> np.ndarray:
    widths = [(BORDER, BORDER)] * 2 + [(0, 0)] * (values.ndim - 2)
    return np.pad(values, widths, mode="symmetric")
