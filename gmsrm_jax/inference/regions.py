"""The parts of a hole that are filled together, distances from what is known, and dilation.

Distances are in king's moves. SciPy's filters are imported where they are called: that takes a
while, and small pictures need few of them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_CELLS_PER_SIDE = 1024  # of the grid on which pieces are found, at most
_CELLS_PER_WINDOW = 8  # pieces nearer than a window's side / this may count as one


class Box(NamedTuple):
    """Rows top … bottom - 1 and columns left … right - 1, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def longest(self) -> int:
        """The longer side in pixels."""
        return max(self.bottom - self.top, self.right - self.left)

    @property
    def around(self) -> tuple[slice, slice]:
        """The index of its pixels in a picture."""
        return np.s_[self.top : self.bottom, self.left : self.right]

    def grown(self, margin: int, shape: tuple[int, ...]) -> "Box":
        """Returns the box with a margin on each side, as far as a picture [H, W] reaches."""
        return Box(
            max(self.top - margin, 0),
            max(self.left - margin, 0),
            min(self.bottom + margin, shape[0]),
            min(self.right + margin, shape[1]),
        )


@dataclass(frozen=True, eq=False)
class Regions:
    """The parts of a hole.

    Attributes:
        boxes: the bounds of each part.
        labels: int32 [ceil(H / cell), ceil(W / cell)], the part that a cell belongs to, -1 none.
        cell: side of a grid cell in pixels.
    """

    boxes: list[Box]
    labels: np.ndarray
    cell: int

    def member(self, index: int, hole: np.ndarray, box: Box) -> np.ndarray:
        """Returns where in a box the hole belongs to part `index`, bool [box height, box width]."""
        rows = np.arange(box.top, box.bottom) // self.cell
        columns = np.arange(box.left, box.right) // self.cell
        first, left = rows[0], columns[0]
        cells = self.labels[first : rows[-1] + 1, left : columns[-1] + 1] == index
        own = cells[(rows - first)[:, None], (columns - left)[None, :]]
        return own & hole[box.around]


def any_in_cells(area: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns whether anything is set in the cells that begin at these rows and columns."""
    return np.logical_or.reduceat(np.logical_or.reduceat(area, rows, axis=0), columns, axis=1)


def find_regions(hole: np.ndarray, window: int) -> Regions:
    """Parts a hole into pieces.

    Args:
        hole: bool [H, W], not empty.
        window: side S of the network's square in pixels. Pieces up to S / 4 are joined with those
            whose centres lie in the same S / 2 square, so that specks cost few windows.
    """
    from scipy import ndimage

    height, width = hole.shape
    cell = max(1, window // _CELLS_PER_WINDOW, -(-max(height, width) // _CELLS_PER_SIDE))
    grid = any_in_cells(hole, np.arange(0, height, cell), np.arange(0, width, cell))
    piece, _ = ndimage.label(grid, np.ones((3, 3)))  # from 1, by their first cells
    tops, lefts, bottoms, rights = _bounds(piece, cell, hole.shape).T
    small = np.maximum(bottoms - tops, rights - lefts) <= window // 4
    half = max(1, window // 2)
    square = ((tops + bottoms) // 2 // half) * (width // half + 2) + (lefts + rights) // 2 // half
    # A large piece stays alone: its key is a number that no square has.
    key = np.where(small, square, -1 - np.arange(len(tops)))
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # parts by their first pixel, from the top
    labels = np.append(np.int32(-1), order[group].astype(np.int32))[piece]
    parts = Regions([], labels, cell)
    for index, bounds in enumerate(_bounds(labels + 1, cell, hole.shape)):
        box = Box(*map(int, bounds))
        own = parts.member(index, hole, box)
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        top, left = box.top + int(rows[0]), box.left + int(columns[0])
        bottom, right = box.top + int(rows[-1]) + 1, box.left + int(columns[-1]) + 1
        parts.boxes.append(Box(top, left, bottom, right))
    return parts


def _bounds(numbers: np.ndarray, cell: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the bounds in pixels of what is numbered from 1 in a grid, int [count, 4]."""
    from scipy import ndimage

    found = ndimage.find_objects(numbers)
    ends = [(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in found]
    return np.minimum(np.array(ends) * cell, shape * 2)


def depth_map(hole: np.ndarray, known: np.ndarray, limit: int) -> np.ndarray:
    """Returns each hole pixel's distance from known ones, int32 [H, W]; 0 beyond the limit.

    Args:
        hole: bool [H, W], pixels whose distance is wanted.
        known: bool [H, W], disjoint from the hole; if nothing is known, all distances are 0.
        limit: largest distance in pixels.
    """
    from scipy import ndimage

    distance = ndimage.distance_transform_cdt(~known, "chessboard")  # -1 if nothing is known
    return np.where(hole & (distance > 0) & (distance <= limit), distance, np.int32(0))


def dilated(hole: np.ndarray, pixels: int) -> np.ndarray:
    """Returns a hole [H, W] grown by so many pixels to every side, corners included."""
    from scipy import ndimage

    # What reaches over all of the picture is as wide as that; SciPy's widths are numbers of C.
    width = 2 * min(pixels, max(hole.shape)) + 1
    return ndimage.maximum_filter(hole, width, mode="constant")
