"""The parts of a hole that are filled together: connected pieces, small neighbours joined."""

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
        return own & hole[box.top : box.bottom, box.left : box.right]


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
    height, width = hole.shape
    cell = max(1, window // _CELLS_PER_WINDOW, -(-max(height, width) // _CELLS_PER_SIDE))
    grid = any_in_cells(hole, np.arange(0, height, cell), np.arange(0, width, cell))
    piece = _connected(grid)
    rows, columns = np.nonzero(grid)
    numbers = piece[rows, columns]
    tops = _reduced(np.minimum, rows * cell, numbers)
    lefts = _reduced(np.minimum, columns * cell, numbers)
    bottoms = _reduced(np.maximum, np.minimum((rows + 1) * cell, height), numbers)
    rights = _reduced(np.maximum, np.minimum((columns + 1) * cell, width), numbers)
    small = np.maximum(bottoms - tops, rights - lefts) <= window // 4
    half = max(1, window // 2)
    square = ((tops + bottoms) // 2 // half) * (width // half + 2) + (lefts + rights) // 2 // half
    # A large piece stays alone: its key is a number that no square has.
    key = np.where(small, square, -1 - np.arange(len(tops)))
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # parts by their first pixel, from the top
    group = order[group]
    ends = [
        _reduced(np.minimum, tops, group),
        _reduced(np.minimum, lefts, group),
        _reduced(np.maximum, bottoms, group),
        _reduced(np.maximum, rights, group),
    ]
    boxes = [Box(*map(int, box)) for box in zip(*ends, strict=True)]
    labels = np.full(grid.shape, -1, np.int32)
    labels[rows, columns] = group[numbers]
    parts = Regions([], labels, cell)
    for index, box in enumerate(boxes):
        own = parts.member(index, hole, box)
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        top, left = box.top + int(rows[0]), box.left + int(columns[0])
        bottom, right = box.top + int(rows[-1]) + 1, box.left + int(columns[-1]) + 1
        parts.boxes.append(Box(top, left, bottom, right))
    return parts


def _reduced(operation: np.ufunc, values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Returns the least or the greatest value of each group; groups are numbered from 0."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return operation.reduceat(values[order], starts)


def _connected(grid: np.ndarray) -> np.ndarray:
    """Numbers the 8-connected pieces of a bool grid from 0, in the order of their first cells."""
    number = np.full(grid.shape, -1, np.int64)
    number[grid] = np.arange(np.count_nonzero(grid))
    pairs = [
        (number[:, :-1], number[:, 1:]),
        (number[:-1], number[1:]),
        (number[:-1, :-1], number[1:, 1:]),
        (number[:-1, 1:], number[1:, :-1]),
    ]
    one = np.concatenate([a[(a >= 0) & (b >= 0)] for a, b in pairs])
    other = np.concatenate([b[(a >= 0) & (b >= 0)] for a, b in pairs])
    parent = np.arange(np.count_nonzero(grid))
    while True:
        a, b = parent[one], parent[other]
        if (a == b).all():
            break
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while (parent[parent] != parent).any():
            parent = parent[parent]
    labels = np.full(grid.shape, -1, np.int64)
    labels[grid] = np.unique(parent, return_inverse=True)[1]
    return labels
