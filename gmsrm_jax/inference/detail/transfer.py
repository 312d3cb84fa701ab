"""What the network gives to the picture made of patches, and how far the network is believed."""

import numpy as np
from scipy import ndimage

_SIGMA = 4.0  # pixels: what is coarser is the network's
_DEPTH = 20.0  # pixels over which it fades
_SHADE = 16.0  # levels: what differs by much more is another thing, not another light
_CELL = 8  # pixels: least side of a square whose known colours bound a filling
_ENOUGH = 0.25  # share of it that must be known


def low_frequencies(
    filled: np.ndarray, guide: np.ndarray, hole: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Pulls colours and shading near the hole's edge towards the network's.

    out = D + e^(−depth / 20) · e^(−‖x‖² / 2·16²) · x in the hole, x = G₄ ∗ (N − D), G₄ a Gaussian
    of 4 pixels over N − D, which is 0 on known pixels. Edges and texture stay as they are; where
    the network saw another thing than was copied, its colours would only be a smudge.

    Args:
        filled: D, float32 [H, W, 3] in 0 … 255.
        guide: N, uint8 [H, W, 3].
        hole: bool [H, W].
        depth: float32 [H, W], distance to known pixels in pixels.

    Returns:
        uint8 [H, W, 3], D rounded outside the hole.
    """
    correction = np.where(hole[..., None], guide - filled, np.float32(0))
    correction = ndimage.gaussian_filter(correction, _SIGMA, mode="nearest", axes=(0, 1))
    square = np.einsum("hwc,hwc->hw", correction, correction)
    fade = np.exp(-depth / np.float32(_DEPTH) - square / np.float32(2 * _SHADE**2))
    fade = np.where(hole, fade, np.float32(0))
    correction *= fade[..., None]
    correction += filled
    return np.clip(np.rint(correction), 0, 255).astype(np.uint8)


def within_surroundings(filled: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Keeps a filling within the colours that are known around it, channel by channel.

    In squares of 8, 16, 32, … pixels: once a quarter of a square and its eight neighbours is known,
    a pixel may be as dark as the darkest and as bright as the brightest pixel known there. So an
    even surface is filled evenly, whatever specks the network would put there.

    Args:
        filled: uint8 [H, W, 3], a filling; the picture outside the hole.
        hole: bool [H, W].

    Returns:
        uint8 [H, W, 3]; known pixels as they are.
    """
    result, left, cell = filled.copy(), hole.copy(), _CELL
    low = _per_cell(np.where(hole[..., None], np.uint8(255), filled), cell, np.minimum)
    high = _per_cell(np.where(hole[..., None], np.uint8(0), filled), cell, np.maximum)
    known = _per_cell((~hole).astype(np.float32), cell, np.add)
    area = _per_cell(np.ones(hole.shape, np.float32), cell, np.add)
    while left.any() and cell < 2 * max(hole.shape):
        least, most = (
            ndimage.minimum_filter(low, (3, 3, 1)),
            ndimage.maximum_filter(high, (3, 3, 1)),
        )
        around, whole = (ndimage.uniform_filter(x, 3, mode="constant") for x in (known, area))
        enough = around >= _ENOUGH * whole
        for row in range(len(low)):
            strip = np.s_[row * cell : (row + 1) * cell]
            now = left[strip] & _spread(enough[row], cell, hole.shape[1])
            if now.any():
                bounds = (_spread(x[row], cell, hole.shape[1]) for x in (least, most))
                kept = np.clip(result[strip], *bounds)
                np.copyto(result[strip], kept, where=now[..., None])
                left[strip] &= ~now
        low, high = _per_cell(low, 2, np.minimum), _per_cell(high, 2, np.maximum)
        known, area, cell = _per_cell(known, 2, np.add), _per_cell(area, 2, np.add), 2 * cell
    return result


def _per_cell(values: np.ndarray, side: int, operation: np.ufunc) -> np.ndarray:
    """Reduces square cells, the last ones perhaps incomplete: [⌈h / side⌉, ⌈w / side⌉, …]."""
    for axis in (0, 1):
        values = operation.reduceat(values, np.arange(0, values.shape[axis], side), axis=axis)
    return values


def _spread(row: np.ndarray, cell: int, width: int) -> np.ndarray:
    """A row of cells as pixels, [width, …]."""
    return np.repeat(row, cell, axis=0)[:width]
