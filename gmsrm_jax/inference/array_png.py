"""PNG files of 16 bits in each of several channels, of which Pillow reads the upper 8 bits only."""

import struct
import zlib

import numpy as np

from gmsrm_jax.runtime.errors import UserError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_CHANNELS = {kind: channels for channels, kind in _COLOUR_TYPES.items()}
_UP = 2  # the filter type "minus the row above"


def encode_png(pixels: np.ndarray) -> bytes:
    """Returns a PNG file of uint16 pixels [H, W, 1 to 4]."""
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels, ">u2").view(np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.insert(rows - above, 0, _UP, axis=1)
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    return b"".join(
        [
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6)),
            _chunk(b"IEND", b""),
        ]
    )


def decode_png(data: bytes, name: str) -> np.ndarray | None:
    """Decodes a PNG file of 16 bits per channel that Pillow has found good.

    Returns:
        uint16 [H, W, 1 to 4]; None for a file of fewer bits, or an interlaced one.

    Raises:
        UserError: the pixels are cut short or damaged.
    """
    if not data.startswith(_SIGNATURE) or len(data) < 33:
        return None
    width, height, bits, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if bits != 16 or kind not in _CHANNELS or interlaced:
        return None
    pixel = 2 * _CHANNELS[kind]
    wanted = height * (1 + width * pixel)
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(_pixel_data(data), wanted)
    except zlib.error as error:
        raise UserError(f"{name}: damaged ({error}); save it again as PNG") from error
    if len(raw) < wanted:
        raise UserError(f"{name}: damaged (cut short); save it again as PNG")
    rows = np.frombuffer(raw, np.uint8).reshape(height, -1)
    filters, filtered = rows[:, 0], rows[:, 1:].reshape(height, width, pixel)
    if filters.max() > 4:
        raise UserError(f"{name}: damaged (filter {filters.max()}); save it again as PNG")
    unfilter = _by_rows if filters.max() <= _UP else _by_diagonals
    unfiltered = unfilter(filters, filtered)
    return unfiltered.reshape(height, -1).view(">u2").astype(np.uint16).reshape(height, width, -1)


def _pixel_data(data: bytes) -> bytes:
    parts, place = [], len(_SIGNATURE)
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if data[place + 4 : place + 8] == b"IDAT":
            parts.append(data[place + 8 : place + 8 + length])
        place += 12 + length
    return b"".join(parts)


def _by_rows(filters: np.ndarray, filtered: np.ndarray) -> np.ndarray:
    """Undoes filters that need no pixel of both the row and the one above: none, sub, up."""
    pixels = filtered.copy()
    for y, kind in enumerate(filters):
        if kind == 1:
            np.cumsum(filtered[y], axis=0, dtype=np.uint8, out=pixels[y])
        elif kind == _UP and y:
            pixels[y] += pixels[y - 1]
    return pixels


def _by_diagonals(filters: np.ndarray, filtered: np.ndarray) -> np.ndarray:
    """Undoes any filters; all pixels of a diagonal, x + y constant, at once.

    A pixel needs the one to its left (a), the one above (b) and the one above that to the left (c).
    """
    height, width, depth = filtered.shape
    pixels = np.zeros((height + 1, width + 1, depth), np.uint8)  # one row and column of zeros
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        a = pixels[y + 1, x].astype(np.int16)
        b = pixels[y, x + 1].astype(np.int16)
        c = pixels[y, x].astype(np.int16)
        near_a, near_b, near_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
        paeth = np.where(
            (near_a <= near_b) & (near_a <= near_c), a, np.where(near_b <= near_c, b, c)
        )
        kind = filters[y][:, None]
        guess = np.select(
            [kind == 0, kind == 1, kind == _UP, kind == 3], [0, a, b, (a + b) // 2], paeth
        )
        pixels[y + 1, x + 1] = filtered[y, x] + guess.astype(np.uint8)
    return pixels[1:, 1:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
