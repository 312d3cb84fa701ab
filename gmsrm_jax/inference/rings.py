"""A hole from the outside in: rings of pixels by their distance from what is known.

Distances are in king's moves. Only hole pixels are visited, so a thin scratch across a large
picture costs little.
"""

import numpy as np

_STEPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def neighbour_offsets(width: int) -> np.ndarray:
    """Returns the eight steps to a pixel's neighbours in a flat padded array of this width."""
    return np.array([dy * width + dx for dy, dx in _STEPS])


def padded(area: np.ndarray, fill: bool = False) -> np.ndarray:
    """Returns a bool area [H, W] with one pixel more on every side."""
    return np.pad(area, 1, constant_values=fill)


def rings(hole: np.ndarray, known: np.ndarray, limit: int) -> list[np.ndarray]:
    """Finds the rings of a hole next to known pixels.

    Args:
        hole: bool [H, W], pixels that may belong to a ring.
        known: bool [H, W], disjoint from the hole.
        limit: largest number of rings.

    Returns:
        For each ring, from the outside in, the indices of its pixels in the flat *padded* array
        [H + 2, W + 2]. Fewer than `limit` where the hole ends, none if nothing is known.
    """
    width = hole.shape[1] + 2
    offsets = neighbour_offsets(width)
    free = padded(hole).ravel()
    candidates = np.flatnonzero(free)
    beside = padded(known).ravel()
    # Not one big look-up: eight neighbours of every hole pixel at once would be eight holes large.
    touching = np.zeros(len(candidates), bool)
    for offset in offsets:
        touching |= beside[candidates + offset]
    ring = candidates[touching]
    found: list[np.ndarray] = []
    while len(ring) and len(found) < limit:
        found.append(ring)
        free[ring] = False
        around = (ring[:, None] + offsets[None, :]).ravel()
        ring = np.unique(around[free[around]])
    return found


def depth_map(hole: np.ndarray, known: np.ndarray, limit: int) -> np.ndarray:
    """Returns each hole pixel's distance from known ones, int32 [H, W]; 0 beyond the limit."""
    height, width = hole.shape
    depth = np.zeros((height + 2) * (width + 2), np.int32)
    for distance, ring in enumerate(rings(hole, known, limit), 1):
        depth[ring] = distance
    return depth.reshape(height + 2, width + 2)[1:-1, 1:-1]


def dilated(hole: np.ndarray, pixels: int) -> np.ndarray:
    """Returns a hole [H, W] grown by so many pixels to every side, corners included."""
    grown = hole
    done = 0
    while done < pixels:
        step = min(max(1, 2 * done), pixels - done)  # what is there is 2 · done + 1 wide already
        done += step
        for axis in (0, 1):
            wide, length = grown.copy(), grown.shape[axis]
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = (
                slice(min(step, length), None),
                slice(0, max(length - step, 0)),
            )
            wide[tuple(ahead)] |= grown[tuple(behind)]
            wide[tuple(behind)] |= grown[tuple(ahead)]
            grown = wide
    return grown
