"""Hole masks on the host: ratios and their bins, centre holes, mask files and mask banks.

A mask is 1 in the hole. Files hold uint8 {0, 1}; mask pictures are white (128 and above) in the
hole.
"""

import io
import os

import numpy as np
from PIL import Image

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.unreadable import UNREADABLE, UNREADABLE_NPZ

# The bins of the paper's tables: lower bound excluded, upper bound included.
RATIO_BINS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))


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


def read_mask(path: str | os.PathLike, size: int, invert: bool = False) -> np.ndarray:
    """Reads a mask picture: grey, nearest-neighbour resize, then 128 and above is the hole.

    Nearest keeps the hole ratio; a smooth resize with a threshold would move many masks to another
    ratio bin. Of 16 bits the upper 8 count.

    Args:
        path: picture file.
        size: side of the returned mask in pixels.
        invert: black is the hole.

    Returns:
        uint8 [size, size, 1].

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith("I;16"):  # convert() would cut 16 bits off at 255
                grey = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            else:
                grey = picture.convert("L")
            grey = grey.resize((size, size), Image.Resampling.NEAREST)
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable mask ({error}); save it again as PNG") from error
    hole = (np.asarray(grey) >= 128) != invert
    return hole.astype(np.uint8)[..., None]


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """Packs masks [N, S, S, 1] of {0, 1} into bits, uint8 [N, ceil(S*S/8)], first pixel highest."""
    return np.packbits(masks.reshape(len(masks), -1).astype(bool), axis=1)


def unpack_masks(packed: np.ndarray, size: int) -> np.ndarray:
    """Returns the uint8 masks [N, size, size, 1] of `pack_masks`."""
    bits = np.unpackbits(packed, axis=1, count=size * size)
    return bits.reshape(len(packed), size, size, 1)


def write_mask_bank(path: str | os.PathLike, masks: np.ndarray) -> None:
    """Writes masks [N, S, S, 1] of {0, 1} as a bit-packed bank (*.npz)."""
    write_packed_masks(path, pack_masks(masks), masks.shape[1])


def write_packed_masks(path: str | os.PathLike, bits: np.ndarray, size: int) -> None:
    """Writes packed masks as a bank (*.npz); equal masks give equal bytes.

    The file holds `bits` (uint8 [N, ceil(S*S/8)], see `pack_masks`), `count` N and `size` S.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, bits=bits, count=np.int64(len(bits)), size=np.int64(size))
    write_atomically(path, buffer.getvalue())


def read_packed_masks(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Reads a mask bank without unpacking it.

    Returns:
        uint8 bits [N, ceil(S*S/8)] and the side S in pixels.

    Raises:
        UserError: the file is missing, is no mask bank, or holds no mask.
    """
    cure = "write one with `gmsrm masks draw` or `gmsrm masks pack`"
    try:
        with np.load(path, allow_pickle=False) as bank:
            bits, count, size = bank["bits"], int(bank["count"]), int(bank["size"])
    except UNREADABLE_NPZ as error:
        raise UserError(f"{path}: not a readable mask bank ({error}); {cure}") from error
    if bits.dtype != np.uint8 or bits.shape != (count, -(-size * size // 8)) or count == 0:
        raise UserError(
            f"{path}: bits of shape {bits.shape} do not fit {count} masks of {size} px; {cure}"
        )
    return bits, size


def read_mask_bank(path: str | os.PathLike) -> np.ndarray:
    """Reads a mask bank as uint8 masks [N, S, S, 1].

    Raises:
        UserError: see `read_packed_masks`.
    """
    return unpack_masks(*read_packed_masks(path))
