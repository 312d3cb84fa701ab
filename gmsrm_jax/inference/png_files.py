"""PNG files of 16 bits in several channels, which Pillow cannot write."""

import struct
import zlib

import numpy as np

_PER_METRE = 1 / 0.0254  # dots per inch


def write_png(pixels: np.ndarray, info: dict) -> bytes:
    """Makes a PNG file.

    Args:
        pixels: uint16 [H, W, 2 to 4].
        info: "exif", "icc_profile" and "dpi" as Pillow has them, where there are such.
    """
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels, ">u2").view(np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.insert(rows - above, 0, 2, axis=1)  # 2 is the filter "up"
    kind = {2: 4, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if "icc_profile" in info:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(info["icc_profile"])))
    if "dpi" in info:
        across, down = (round(float(dots) * _PER_METRE) for dots in info["dpi"])
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if "exif" in info:
        chunks.append((b"eXIf", info["exif"].removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
