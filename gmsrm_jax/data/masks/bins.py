"""Which holes the paper's tables tell apart: six bins of ratios, and two sizes of centre holes."""

import numpy as np

from gmsrm_jax.runtime.errors import UserError

# The bins of the paper's tables: lower bound excluded, upper bound included.
RATIO_BINS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))
CENTRE_RATIOS = (0.25, 0.5)
LARGER = "60-100%"  # the label of what the paper does not score


def ratio_bin(ratio: float) -> int | None:
    """Returns the index in RATIO_BINS of a hole ratio, None for 0 and for more than 0.6."""
    for index, (low, high) in enumerate(RATIO_BINS):
        if low < ratio <= high:
            return index
    return None


def bin_name(index: int) -> str:
    """Returns the label of a bin of RATIO_BINS, "0-10%" for the first."""
    low, high = RATIO_BINS[index]
    return f"{round(100 * low)}-{round(100 * high)}%"


def size_name(ratio: float) -> str:
    """Returns the label of a hole of any size above 0: that of its bin, or LARGER."""
    index = ratio_bin(ratio)
    return LARGER if index is None else bin_name(index)


def hole_ratio(mask: np.ndarray) -> float:
    """Returns the share of hole pixels of a mask of any shape, in [0, 1]."""
    return float(np.count_nonzero(mask) / np.size(mask))


def center_mask(size: int, ratio: float) -> np.ndarray:
    """Makes a square hole in the centre.

    Its side is round(size * sqrt(ratio)) and its offset (size - side) / 2 rounded down: sides 128
    and 181 for ratios 0.25 and 0.5 at 256 px.

    Args:
        size: side of the mask in pixels.
        ratio: share of the picture that the hole covers, in (0, 1].

    Returns:
        float32 [size, size, 1].

    Raises:
        UserError: the ratio is not in (0, 1].
    """
    if not 0.0 < ratio <= 1.0:
        raise UserError(f"centre hole ratio {ratio}: use a share above 0 and up to 1")
    side = round(size * ratio**0.5)
    offset = (size - side) // 2
    mask = np.zeros((size, size, 1), np.float32)
    mask[offset : offset + side, offset : offset + side] = 1.0
    return mask


BIN_NAMES = (
    *(bin_name(index) for index in range(len(RATIO_BINS))),
    *(f"centre {ratio:.0%}" for ratio in CENTRE_RATIOS),
)
"""Labels of all holes that every test picture gets, in the order of a mask list."""
