"""Mask pictures and mask banks: files of hole masks that belong to no pictures.

A mask is 1 in the hole. Banks hold uint8 {0, 1} in bits; mask pictures are white (128 and above) in
the hole.
"""

import io
import os

import numpy as np
from PIL import Image, ImageChops

from gmsrm_jax.data.decoding import upright
from gmsrm_jax.data.formats import open_picture_file
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.unreadable import UNREADABLE, UNREADABLE_NPZ


def read_mask(path: str | os.PathLike, size: int, invert: bool = False) -> np.ndarray:
    """Reads a mask picture: grey, nearest-neighbour resize, then 128 and above is the hole.

    As where people fill pictures of their own (`inference.mask_io`), what is transparent counts as
    black, the file is turned as its EXIF says, and of 16 bits the upper 8 count. Nearest
    keeps the hole ratio; a smooth resize with a threshold would move many masks to another ratio
    bin.

    Args:
        path: picture file.
        size: side of the returned mask in pixels.
        invert: black is the hole.

    Returns:
        uint8 [size, size, 1].

    Raises:
        UserError: the file cannot be read.
    """
    grey = read_grey(path).resize((size, size), Image.Resampling.NEAREST)
    hole = (np.asarray(grey) >= 128) != invert
    return hole.astype(np.uint8)[..., None]


def read_grey(path: str | os.PathLike) -> Image.Image:
    """Reads a mask picture as `read_mask` does, in its own size: mode L, 0..255.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as stream, open_picture_file(stream) as picture:
            return _grey(upright(picture))
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable mask ({error}); save it again as PNG") from error


def _grey(picture: Image.Image) -> Image.Image:
    """A mask picture as 8-bit grey over black."""
    if picture.mode.startswith("I;16"):  # convert() would cut 16 bits off at 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    grey = picture.convert("L")
    if not picture.has_transparency_data:
        return grey
    return ImageChops.multiply(grey, picture.convert("RGBA").getchannel("A"))


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
