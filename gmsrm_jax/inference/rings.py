"""Distances from what is known, and dilation, both in king's moves.

SciPy's filters are imported where they are called: that takes a while, and few pictures need them.
"""

import numpy as np


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

    return ndimage.maximum_filter(hole, 2 * pixels + 1, mode="constant")
