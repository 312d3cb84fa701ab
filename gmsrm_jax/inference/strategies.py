"""How a picture of any size is shown to a network of one size.

- resize: the whole picture in one square, its longer side scaled to the network's size, the shape
  kept and the rest mirrored: training never stretches, so a stretched picture is not what the
  network knows.
- crop: each part of the hole in a window of its own at the network's scale. The window is larger
  than the network, and scaled down, only where the part would fill more than about half of it.
- tile: parts that need no scaling as in crop; larger ones from the outside in with overlapping
  windows (`tiling`), scaled down only as far as needed to keep them within
  about five bands of S / 4, rounds of `tiling`.
- detail: the picture's own pixels, guided by the network (`detail`). The guide shows the network
  each part of the hole once: as in crop where that needs no scaling, otherwise in overlapping
  windows, scaled down until one band reaches its middle, so that none is fed on another's blur.
- auto: see `choose`. What it shows whole is kept within the colours known around each pixel, as
  detail's guide is, so that an even surface is filled evenly.
"""

from collections.abc import Callable, Generator

import numpy as np
from PIL import Image

from gmsrm_jax.inference.regions import (
    Box,
    Regions,
    any_in_cells,
    depth_map,
    dilated,
    find_regions,
)
from gmsrm_jax.inference.tiling import Filling, Square, fill_by_rings
from gmsrm_jax.inference.windows import cell_starts, centred, cut, paste, scaled

_CONTEXT = 1.5  # a window's side over that of the part it fills: the part covers up to 44 % of it
_NEAR_SIZE = 1.5  # pictures up to this times the network's size are shown whole
_MOST_HOLE = 0.85  # share of the hole above which only the whole picture can help
_TILED_DEPTH = 0.625  # of a tiled part, in network sizes: two and a half bands from each side
GUIDE_DEPTH = 0.3  # of a part of detail's guide, in network sizes: within one band, 0.375
_GUIDE_SHARE = 0.5  # of the time that detail takes, about, for the progress alone


Report = Callable[[float], None]
"""Is told, often, the share of a picture's work that is done, in [0, 1]."""


def _untold(share: float) -> None:
    del share


def choose(strategy: str, hole: np.ndarray, size: int) -> str:
    """Says what "auto" means for a picture.

    "resize" where the picture's longer side is at most 1.5 times the network's, or more than 85 %
    of it is hole; otherwise "detail".

    Args:
        strategy: "auto", "resize", "crop", "tile" or "detail".
        hole: bool [H, W], not empty.
        size: side S of the network's square in pixels.

    Returns:
        "resize", "crop", "tile" or "detail".
    """
    if strategy != "auto":
        return strategy
    near = max(hole.shape) <= _NEAR_SIZE * size
    return "resize" if near or np.count_nonzero(hole) > _MOST_HOLE * hole.size else "detail"


def fill(
    strategy: str,
    rgb: np.ndarray,
    hole: np.ndarray,
    size: int,
    seed: int = 0,
    report: Report = _untold,
) -> Filling:
    """Fills a hole.

    Args:
        strategy: "auto", "resize", "crop", "tile" or "detail".
        rgb: uint8 [H, W, 3].
        hole: bool [H, W], not empty.
        size: side S of the network's square in pixels.
        seed: of what detail draws.
        report: is told how far the work is.
    """
    chosen = choose(strategy, hole, size)
    if chosen == "resize":
        return _resize(rgb, hole, size, bounded=strategy == "auto")
    if chosen == "detail":
        return _detail(rgb, hole, size, seed, report)
    return _alone(rgb, hole, size, _TILED_DEPTH if chosen == "tile" else None, report)


def _resize(rgb: np.ndarray, hole: np.ndarray, size: int, bounded: bool) -> Filling:
    height, width = hole.shape
    window = centred(Box(0, 0, height, width), max(height, width), height, width)
    (output,) = yield [Square(*cut(rgb, hole, window, size))]
    if output.shape == rgb.shape and not bounded:
        return output
    predicted, near = rgb.copy(), dilated(hole, 1)
    paste(predicted, output, window, near)
    if bounded:
        # SciPy's filters take a while to import.
        from gmsrm_jax.inference.detail import within_surroundings

        return within_surroundings(predicted, near)
    return predicted


def _alone(
    rgb: np.ndarray, hole: np.ndarray, size: int, deepest: float | None, report: Report
) -> Filling:
    filled, _ = yield from _parts(rgb, hole, size, deepest, report)
    return filled


def _detail(rgb: np.ndarray, hole: np.ndarray, size: int, seed: int, report: Report) -> Filling:
    # SciPy's filters take a while to import, and small pictures need none.
    from gmsrm_jax.inference.detail import Guide, fill_detail

    filled, scaling = yield from _parts(
        rgb, hole, size, GUIDE_DEPTH, lambda share: report(share * _GUIDE_SHARE)
    )
    steps = fill_detail(rgb, hole, Guide(filled, *scaling), seed)
    while True:
        try:
            report(_GUIDE_SHARE + (1 - _GUIDE_SHARE) * next(steps))
        except StopIteration as end:
            return end.value
        yield []  # asks for nothing, but others may go on, or end the work


def _parts(
    rgb: np.ndarray, hole: np.ndarray, size: int, deepest: float | None, report: Report
) -> Generator[list[Square], list[np.ndarray], tuple[np.ndarray, tuple[np.ndarray, int]]]:
    """Fills the hole part by part.

    Args:
        rgb: uint8 [H, W, 3].
        hole: bool [H, W].
        size: side S of the network's square in pixels.
        deepest: of a tiled part, in network sizes; None to tile none.
        report: is told how far the work is.

    Returns:
        The filled picture, and how far each cell was scaled down: float32 [cells down, across] and
        the cell's side.
    """
    height, width = hole.shape
    parts = find_regions(hole, size)
    windows = [
        centred(box, _crop_side(box, hole.shape, size), height, width) for box in parts.boxes
    ]
    scales = [window.side / size for window in windows]
    whole = [k for k, scale in enumerate(scales) if scale <= 1 or deepest is None]
    depth_limit = (deepest or 1.0) * size
    total = sum(box.longest**2 for box in parts.boxes)
    outputs = yield [Square(*cut(rgb, hole, windows[k], size)) for k in whole]
    predicted = rgb.copy()
    done = 0
    for k, output in zip(whole, outputs, strict=True):
        box = windows[k].inside(height, width)
        own, known = _own_and_known(parts, k, hole, box)
        paste(predicted, output, windows[k], own | (dilated(own, 1) & known))
        done += parts.boxes[k].longest ** 2
    report(done / total)
    for k in sorted(set(range(len(windows))) - set(whole)):
        scales[k] = max(1.0, _depth(parts, k, hole) / depth_limit)
        yield from _tile(predicted, rgb, hole, parts, k, size, scales[k])
        done += parts.boxes[k].longest ** 2
        report(done / total)
    scaling = np.append(np.maximum(scales, 1), 1).astype(np.float32)[parts.labels]
    return predicted, (scaling, parts.cell)


def _tile(
    predicted: np.ndarray,
    rgb: np.ndarray,
    hole: np.ndarray,
    parts: Regions,
    part: int,
    size: int,
    scale: float,
) -> Generator[list[Square], list[np.ndarray], None]:
    """Fills one part from the outside in, scaled down, and writes it to `predicted`."""
    box = parts.boxes[part].grown(int(np.ceil(size * scale)), hole.shape)
    around = box.around
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
    return parts.member(part, hole, box), ~hole[box.around]


def _depth(parts: Regions, part: int, hole: np.ndarray) -> float:
    """Returns how far a part's innermost pixel is from known ones, in pixels."""
    bounds = parts.boxes[part]
    own, known = _own_and_known(parts, part, hole, bounds.grown(1, hole.shape))
    return float(depth_map(own, known, bounds.longest).max()) or float(bounds.longest)


def _crop_side(box: Box, shape: tuple[int, ...], size: int) -> int:
    """Returns the side of a part's window; never more than the picture needs."""
    return max(size, min(int(np.ceil(_CONTEXT * box.longest)), max(shape)))
