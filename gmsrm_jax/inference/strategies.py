"""How a picture of any size is shown to a network of one size.

- resize: the whole picture in one square, its longer side scaled to the network's size, the shape
  kept and the rest mirrored: training never stretches, so a stretched picture is not what the
  network knows.
- crop: each part of the hole in a window of its own at the network's scale. The window is larger
  than the network, and scaled down, only where the part would fill more than about half of it.
- tile: parts that need no scaling as in crop; larger ones from the outside in with overlapping
  windows (`tiling`), scaled down only as far as needed to keep them within
  about five bands of S / 4, rounds of `tiling`.
- auto: see `choose`.
"""

from collections.abc import Generator

import numpy as np
from PIL import Image

from gmsrm_jax.inference.regions import Box, Regions, any_in_cells, find_regions
from gmsrm_jax.inference.rings import depth_map, dilated
from gmsrm_jax.inference.tiling import Filling, Square, fill_by_rings
from gmsrm_jax.inference.windows import cell_starts, centred, cut, paste, scaled

_CONTEXT = 1.5  # a window's side over that of the part it fills: the part covers up to 44 % of it
_NEAR_SIZE = 1.5  # pictures up to this times the network's size are shown whole
_MOST_SCALING = 2.0  # crop, in auto, scales no window down further
_MOST_HOLE = 0.85  # share of the hole above which only the whole picture can help
_TILED_DEPTH = 0.625  # of a tiled part, in network sizes: two and a half bands from each side
_DEPTH_GRID = 256  # cells per side on which depth is measured


def choose(strategy: str, hole: np.ndarray, size: int) -> str:
    """Says what "auto" means for a picture.

    "resize" where the picture's longer side is at most 1.5 times the network's, or more than 85 %
    of it is hole; otherwise "crop", if no window must be scaled down more than twice; otherwise
    "tile".

    Args:
        strategy: "auto", "resize", "crop" or "tile".
        hole: bool [H, W], not empty.
        size: side S of the network's square in pixels.

    Returns:
        "resize", "crop" or "tile".
    """
    if strategy != "auto":
        return strategy
    longest = max(hole.shape)
    if longest <= _NEAR_SIZE * size or np.count_nonzero(hole) > _MOST_HOLE * hole.size:
        return "resize"
    parts = find_regions(hole, size)
    sides = [_crop_side(box, hole.shape, size) for box in parts.boxes]
    return "crop" if max(sides) <= _MOST_SCALING * size else "tile"


def fill(strategy: str, rgb: np.ndarray, hole: np.ndarray, size: int) -> Filling:
    """Fills a hole.

    Args:
        strategy: "resize", "crop" or "tile".
        rgb: uint8 [H, W, 3].
        hole: bool [H, W], not empty.
        size: side S of the network's square in pixels.
    """
    if strategy == "resize":
        return _resize(rgb, hole, size)
    return _parts(rgb, hole, size, tiled=strategy == "tile")


def _resize(rgb: np.ndarray, hole: np.ndarray, size: int) -> Filling:
    height, width = hole.shape
    window = centred(Box(0, 0, height, width), max(height, width), height, width)
    (output,) = yield [Square(*cut(rgb, hole, window, size))]
    if output.shape == rgb.shape:
        return output
    predicted = rgb.copy()
    paste(predicted, output, window, dilated(hole, 1))
    return predicted


def _parts(rgb: np.ndarray, hole: np.ndarray, size: int, tiled: bool) -> Filling:
    height, width = hole.shape
    parts = find_regions(hole, size)
    windows = [
        centred(box, _crop_side(box, hole.shape, size), height, width) for box in parts.boxes
    ]
    whole = [k for k, window in enumerate(windows) if window.side <= size or not tiled]
    outputs = yield [Square(*cut(rgb, hole, windows[k], size)) for k in whole]
    predicted = rgb.copy()
    for k, output in zip(whole, outputs, strict=True):
        box = windows[k].inside(height, width)
        own, known = _own_and_known(parts, k, hole, box)
        paste(predicted, output, windows[k], own | (dilated(own, 1) & known))
    for k in sorted(set(range(len(windows))) - set(whole)):
        yield from _tile(predicted, rgb, hole, parts, k, size)
    return predicted


def _tile(
    predicted: np.ndarray, rgb: np.ndarray, hole: np.ndarray, parts: Regions, part: int, size: int
) -> Generator[list[Square], list[np.ndarray], None]:
    """Fills one part from the outside in, and writes it to `predicted`."""
    bounds = parts.boxes[part]
    scale = max(1.0, _depth(parts, part, hole) / (_TILED_DEPTH * size))
    margin = int(np.ceil(size * scale))
    box = Box(
        max(bounds.top - margin, 0),
        max(bounds.left - margin, 0),
        min(bounds.bottom + margin, hole.shape[0]),
        min(bounds.right + margin, hole.shape[1]),
    )
    around = np.s_[box.top : box.bottom, box.left : box.right]
    own, known = _own_and_known(parts, part, hole, box)
    if scale == 1.0:
        filled = yield from fill_by_rings(rgb[around], ~known, own, size)
    else:
        height, width = (max(1, round(side / scale)) for side in own.shape)
        small, small_hole = scaled(rgb[around], ~known, height, width)
        small_own = any_in_cells(own, *cell_starts(own.shape, height, width)) & small_hole
        filled = yield from fill_by_rings(small, small_hole, small_own, size)
        filled = np.asarray(
            Image.fromarray(filled).resize(own.shape[::-1], Image.Resampling.BICUBIC)
        )
    written = own | (dilated(own, 1) & known)
    predicted[around][written] = filled[written]


def _own_and_known(
    parts: Regions, part: int, hole: np.ndarray, box: Box
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where in a box one part of the hole lies, and what is known."""
    known = ~hole[box.top : box.bottom, box.left : box.right]
    return parts.member(part, hole, box), known


def _depth(parts: Regions, part: int, hole: np.ndarray) -> float:
    """Returns how far a part's innermost pixel is from known ones, within a cell, in pixels."""
    bounds = parts.boxes[part]
    cell = -(-bounds.longest // _DEPTH_GRID)
    box = Box(
        max(bounds.top - cell, 0),
        max(bounds.left - cell, 0),
        min(bounds.bottom + cell, hole.shape[0]),
        min(bounds.right + cell, hole.shape[1]),
    )
    own, known = _own_and_known(parts, part, hole, box)
    rows, columns = (np.arange(0, side, cell) for side in own.shape)
    inside = any_in_cells(own, rows, columns)
    depth = depth_map(inside, ~any_in_cells(~known, rows, columns), bounds.longest)
    return cell * float(depth.max()) or float(bounds.longest)


def _crop_side(box: Box, shape: tuple[int, ...], size: int) -> int:
    """Returns the side of a part's window; never more than the picture needs."""
    return max(size, min(int(np.ceil(_CONTEXT * box.longest)), max(shape)))
