"""Mask pictures and mask banks: files of hole masks that belong to no pictures.

A mask is 1 in the hole. Banks hold uint8 {0, 1} in bits; mask pictures are white in the hole.
"""

import io
import os

import numpy as np
from PIL import Image, ImageChops

from gmsrm_jax.data.decoding import upright
from gmsrm_jax.data.formats import open_picture_file
from gmsrm_jax.data.masks.reading import is_label, white_part
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.unreadable import UNREADABLE, UNREADABLE_NPZ


def read_mask(path: str | os.PathLike, size: int, invert: bool = False) -> np.ndarray:
    """Reads a mask picture and resizes it by the nearest pixel.

    Nearest keeps the hole ratio; a smooth resize with a threshold would move many masks to another
    ratio bin.

    Args:
        path: picture file, see `read_hole`.
        size: side of the returned mask in pixels.
        invert: black is the hole.

    Returns:
        uint8 [size, size, 1].

    Raises:
        UserError: the file cannot be read, or is no clear mask.
    """
    hole = Image.fromarray(read_hole(path, invert))
    resized = hole.resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(resized).astype(np.uint8)[..., None]


def read_hole(path: str | os.PathLike, invert: bool = False) -> np.ndarray:
    """Reads a mask picture as where people fill pictures of their own (`inference.mask_io`).

    White is the hole, or what stands for it, see `reading`. What is transparent counts as black,
    the file is turned as its EXIF says, and of 16 bits the upper 8 count.

    Args:
        path: picture file.
        invert: black is the hole.

    Returns:
        bool [H, W], in the mask's own size.

    Raises:
        UserError: the file cannot be read, or is no clear mask.
    """
    try:
        with open(path, "rb") as stream, open_picture_file(stream) as picture:
            levels = _levels(upright(picture))
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable mask ({error}); save it again as PNG") from error
    asked = ("pass --invert", "")
    return white_part(levels, None, invert, os.fspath(path), options=asked)[0] != invert


def _levels(picture: Image.Image) -> np.ndarray:
    """A mask picture over black, uint8 [H, W] or [H, W, 3]."""
    if picture.mode.startswith("I;16"):  # convert() would cut 16 bits off at 255
        numbers = np.asarray(picture)
        return ((numbers > 0) * np.uint8(255)) if is_label(numbers) else (numbers >> 8).astype("u1")
    mode = "L" if picture.mode in ("1", "L", "LA", "La", "I", "F") else "RGB"
    levels = picture.convert(mode)
    if picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A")
        levels = ImageChops.multiply(levels, Image.merge(mode, [alpha] * len(mode)))
    return np.asarray(levels)


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
            f"{path}: bits of shape {bits.shape} do not fit {count_of(count, 'mask')} of "
            f"{size} px; {cure}"
        )
    return bits, size
