"""A soft edge that lies wholly inside the hole.

Beside the hole the network predicts known pixels too, so its error there is known. Subtracting
that error from the filling makes the seam vanish at the edge; the correction is smoothed and fades
to nothing over `width` pixels. Known pixels are never written.
"""

import numpy as np

from gmsrm_jax.inference.regions import depth_map


def feathered(
    filled: np.ndarray, picture: np.ndarray, predicted: np.ndarray, hole: np.ndarray, width: int
) -> np.ndarray:
    """Blends a filling into its surroundings.

    Ring d of the hole, d = 1 ... width, gets filled + w_d · e with w_d = 1 − d / (width + 1) and e
    the mean of e over the neighbours in ring d − 1; next to the hole e = picture − predicted.

    Args:
        filled: uint8 [H, W, 3], the picture with its hole filled.
        picture: uint8 [H, W, 3], the given picture; what lies in the hole is not looked at.
        predicted: uint8 [H, W, 3], the network's own output on the known pixels that touch the
            hole; where there is none, the picture.
        hole: bool [H, W].
        width: pixels; 0 changes nothing.

    Returns:
        uint8 [H, W, 3], equal to `filled` outside the hole and deeper than `width` in it.
    """
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    if width == 0 or not len(rows):
        return filled
    # The box of the hole with its neighbours; the rest of a large picture does not matter.
    box = np.s_[max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
    inside = hole[box]
    known = ~inside
    depth = depth_map(inside, known, width)
    depth[inside & (depth == 0)] = -1  # too deep for a ring
    level = np.pad(depth, 1, constant_values=-1).ravel()
    stride = inside.shape[1] + 2
    offsets = np.array([dy * stride + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx])
    error = np.zeros((inside.shape[0] + 2, stride, 3), np.float32)
    error[1:-1, 1:-1] = np.where(
        known[..., None], picture[box].astype(np.float32) - predicted[box], 0.0
    )
    flat_error = error.reshape(-1, 3)
    correction = np.zeros_like(flat_error)
    for distance in range(1, depth.max() + 1):
        ring = np.flatnonzero(level == distance)
        around = ring[:, None] + offsets[None, :]
        weight = (level[around] == distance - 1).astype(np.float32)
        summed = np.einsum("nk,nkc->nc", weight, flat_error[around])
        flat_error[ring] = summed / weight.sum(1, keepdims=True)
        correction[ring] = flat_error[ring] * np.float32(1.0 - distance / (width + 1.0))
    shift = correction.reshape(error.shape)[1:-1, 1:-1]
    result = filled.copy()
    target = result[box]
    blended = np.clip(np.rint(target + shift), 0, 255).astype(np.uint8)
    target[inside] = blended[inside]
    return result
