"""Large holes from the outside in: overlapping windows, ring by ring.

Each round fills a band along the edge of what is known. Its windows overlap and are averaged with
weights that fall to their borders. The next round takes all but the innermost part of the band for
known, draws that part anew, and fades from the one drawing to the other: a network is at its worst
right at the edge of a hole, and there the new drawing does not count yet.
"""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from gmsrm_jax.inference.regions import Box, depth_map, dilated
from gmsrm_jax.inference.windows import Window, centred, cut


class Square(NamedTuple):
    """What the network is asked to fill.

    Attributes:
        image: uint8 [S, S, 3].
        hole: bool [S, S].
    """

    image: np.ndarray
    hole: np.ndarray


Filling = Generator[list[Square], list[np.ndarray], np.ndarray]
"""Asks for squares to be filled, is sent the network's outputs (uint8 [S, S, 3], in order), and
returns the picture with the network's output in its hole and on the pixels around it."""


def fill_by_rings(rgb: np.ndarray, hole: np.ndarray, own: np.ndarray, size: int) -> Filling:
    """Fills one part of a hole at the network's own scale.

    Args:
        rgb: uint8 [h, w, 3].
        hole: bool [h, w], all that is unknown.
        own: bool [h, w], the part to fill, a subset of `hole`.
        size: side S of the network's square in pixels.

    Returns:
        uint8 [h, w, 3]: outputs of the first round beside the hole, all rounds inside `own`.
    """
    band, overlap = 3 * size // 8, max(1, size // 8)
    weights = _window_weights(size)
    canvas, unknown = rgb.astype(np.float32), hole.copy()
    drawn_before = np.zeros(hole.shape, bool)
    beside = dilated(own, 1) & ~hole
    around = None
    while (left := unknown & own).any():
        depth = depth_map(left, ~unknown, band)
        if not depth.any():  # nothing known touches it: all of it at once
            depth[left] = 1
        now = depth > 0
        windows = _cover(now, size)
        shown = np.rint(canvas).astype(np.uint8)
        outputs = yield [Square(*cut(shown, unknown, window, size)) for window in windows]
        drawn, covered = _averaged(outputs, windows, weights, hole.shape)
        if around is None:
            around = np.where(covered[beside][:, None], drawn[beside], canvas[beside])
        fade = np.where(drawn_before, np.minimum(depth / (overlap + 1), 1), 1)[now][:, None]
        canvas[now] += (drawn[now] - canvas[now]) * fade.astype(np.float32)
        done = now if (now == left).all() else now & (depth <= band - overlap)
        drawn_before = now & ~done
        unknown &= ~done
    canvas[beside] = around
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _cover(area: np.ndarray, size: int) -> list[Window]:
    """Returns windows that hold each pixel of an area, and S / 8 around it or to the border.

    One for each cell of 3 S / 4 that has any of it, around what it has: half as many windows as
    with cells of S / 2, and no worse (docs/detail.md).
    """
    from scipy import ndimage

    height, width = area.shape
    rows, columns = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
    side = 3 * size // 4
    down = (np.arange(height, dtype=np.int32) - rows[0]) // side
    across = (np.arange(width, dtype=np.int32) - columns[0]) // side
    cell = down[:, None] * (across[-1] + 1) + across
    windows = []
    for found in ndimage.find_objects(np.where(area, cell + 1, 0)):
        if found is not None:
            y, x = ((s.start + s.stop) // 2 for s in found)
            windows.append(centred(Box(y, x, y, x), size, height, width))
    return list(dict.fromkeys(windows))


def _averaged(
    outputs: list[np.ndarray], windows: list[Window], weights: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weighted mean of all windows, float32 [h, w, 3], and where there is any."""
    height, width = shape
    total = np.zeros((height, width, 3), np.float32)
    weight = np.zeros((height, width, 1), np.float32)
    for output, window in zip(outputs, windows, strict=True):
        box = window.inside(height, width)
        target = box.around
        source = Box(
            box.top - window.top,
            box.left - window.left,
            box.bottom - window.top,
            box.right - window.left,
        ).around
        total[target] += output[source] * weights[source]
        weight[target] += weights[source]
    covered = weight[..., 0] > 0
    return total / np.maximum(weight, np.finfo(np.float32).tiny), covered


def _window_weights(size: int) -> np.ndarray:
    """Returns (distance to the nearer border)⁴ along both axes, float32 [S, S, 1]."""
    place = np.arange(size)
    side = (np.minimum(place, size - 1 - place) + 1) / (size / 2)
    weights = (side[:, None] * side[None, :]) ** 4
    return weights[..., None].astype(np.float32)
