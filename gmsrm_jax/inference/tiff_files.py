"""TIFF files: what their tags say that a picture does not, and writing them.

Pillow reads the pixels. It writes neither 16 bits of several channels nor, compressed, directories
of EXIF and GPS, so files are written here, with its writer of tags.
"""

import io
import zlib
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

SUB_IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Tags that tell of the picture and not of how its pixels are stored: names, maker, resolution,
# software, date, artist, copyright, EXIF, GPS and where on earth it lies.
DESCRIPTIVE = (
    *(269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 33432, *SUB_IFDS),
    *(33550, 33922, 34264, 34735, 34736, 34737, 42113),
)
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _LENGTHS = 273, 277, 278, 279
X_RESOLUTION, _Y_RESOLUTION, _UNIT = 282, 283, 296
_EXTRA, _FORMAT, _PROFILE = 338, 339, 34675
# Further ones that say how pixels are stored, and a profile, which is kept elsewhere.
_STRUCTURE = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281),
    *(284, 288, 289, 290, 291, 292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325),
    *(332, 334, 336, 338, 339, 340, 341, 347, *range(512, 522), 529, 530, 531, 532, 34675, 559),
}
_DEFLATED, _INCH, _UNASSOCIATED = 8, 2, 2
_STRIP_BYTES = 1 << 20


def left_out(tags: ImageFileDirectory_v2) -> list[str]:
    """Names of a file's tags that tell of the picture but are not kept."""
    lost = sorted(set(tags) - _STRUCTURE - set(DESCRIPTIVE))
    names = {tag: TiffTags.lookup(tag).name for tag in lost}
    return [f"tag {tag}" if name == "unknown" else name for tag, name in names.items()]


def write_tiff(pixels: np.ndarray, mode: str, info: dict) -> bytes:
    """Makes a deflated TIFF file.

    Args:
        pixels: bool, uint8, uint16, int32 or float32 [H, W] or [H, W, C].
        mode: "CMYK", a mode or layout that ends in "A" for alpha as last channel, or another.
        info: "exif", "icc_profile" and "dpi" as Pillow has them, where there are such.
    """
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    alpha = mode.partition(";")[0].endswith("A")
    tags = ImageFileDirectory_v2()
    exif = Image.Exif()
    exif.load(info.get("exif", b""))
    for tag in set(exif) & set(DESCRIPTIVE):
        tags[tag] = _nested(exif, tag) if tag in SUB_IFDS else as_stored(exif[tag])
    if "dpi" in info and X_RESOLUTION not in tags:
        tags[X_RESOLUTION], tags[_Y_RESOLUTION] = map(float, info["dpi"])
        tags[_UNIT] = _INCH
    bits = 1 if pixels.dtype == bool else 8 * pixels.itemsize
    tags[_WIDTH], tags[_HEIGHT], tags[_SAMPLES] = width, height, channels
    tags[_BITS] = (bits,) * channels
    tags[_FORMAT] = ({"i": 2, "f": 3}.get(pixels.dtype.kind, 1),) * channels
    tags[_COMPRESSION] = _DEFLATED
    tags[_PHOTOMETRIC] = 5 if mode == "CMYK" else 2 if channels > 2 else 1
    if alpha:
        tags[_EXTRA] = (_UNASSOCIATED,)
    if "icc_profile" in info:
        tags[_PROFILE] = info["icc_profile"]
        tags.tagtype[_PROFILE] = TiffTags.UNDEFINED
    packed = np.packbits(pixels, axis=1) if bits == 1 else pixels
    rows = max(1, _STRIP_BYTES // max(1, packed[0].nbytes))
    little = packed.astype(packed.dtype.newbyteorder("<"), copy=False)
    strips = [zlib.compress(little[k : k + rows].tobytes(), 6) for k in range(0, height, rows)]
    tags[_ROWS] = rows
    tags[_LENGTHS] = tuple(map(len, strips))
    tags[_OFFSETS] = tuple(np.cumsum([0, *map(len, strips)])[:-1].tolist())
    tags.tagtype[_OFFSETS] = tags.tagtype[_LENGTHS] = TiffTags.LONG
    buffer = io.BytesIO()
    tags.save(buffer)  # counts the offsets from where it ends
    return buffer.getvalue() + b"".join(strips)


def as_stored(value: Any) -> Any:
    """The bytes of a text that Pillow, which reads Latin-1, could not write; or the value."""
    odd = isinstance(value, str) and not value.isascii()
    return value.encode("latin-1", "replace") if odd else value


def _nested(exif: Image.Exif, tag: int) -> dict:
    """A directory with the one that it may point to."""
    directory = {key: as_stored(value) for key, value in exif.get_ifd(tag).items()}
    pointer = ExifTags.IFD.Interop
    return directory | ({pointer: exif.get_ifd(pointer)} if pointer in directory else {})
