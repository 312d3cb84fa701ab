"""Small good picture files of every format and mode."""

import functools
import io
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
READ = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "MPO", "AVIF")  # the others must be refused
PILLOW_MODES = (
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"),
    *("LAB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"),
)
_FILE_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": (
        *("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"),
        *("I;16", "I;16B", "I", "F"),
    ),
    "GIF": ("L", "P", "RGB"),
    "PPM": ("1", "L", "RGB"),
    "TGA": ("L", "RGBA"),
    "ICO": ("RGBA",),
    "EPS": ("RGB",),
    "PDF": ("RGB",),
    "JPEG2000": ("RGB",),
    "AVIF": ("RGB",),
}
_COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")


class PictureFile(NamedTuple):
    """A good file: what it is, and its bytes."""

    format: str
    mode: str
    data: bytes


def picture_of(mode: str, seed: int, width: int, height: int) -> Image.Image:
    """A made-up picture of any of Pillow's modes."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 256, (height, width, 4), np.uint8)
    if mode in ("I", "F"):
        return Image.fromarray(numbers[..., 0].astype(np.int32 if mode == "I" else np.float32))
    if mode == "1":
        return Image.fromarray(numbers[..., 0] > 127)
    if mode == "P":
        return Image.fromarray(numbers[..., :3]).quantize(16)
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (width, height), numbers[..., :2].tobytes())
    bands = {"L": 1, "LA": 2, "La": 2, "PA": 2}.get(mode, 3)
    bands = 4 if mode in ("RGBA", "RGBa", "RGBX", "CMYK") else bands
    return Image.frombytes(mode, (width, height), numbers[..., :bands].tobytes())


@functools.cache
def good_files() -> tuple[PictureFile, ...]:
    """Files of every format and mode, with metadata, several frames, and unusual encodings."""
    Image.init()
    files = []

    def add(format: str, mode: str, **options: Any) -> None:
        number = len(files)
        size = 16 + number * 7 % 33, 16 + number * 5 % 33
        if options.get("save_all"):
            options["append_images"] = [picture_of(mode, seed, *size) for seed in (1, 2)]
        buffer = io.BytesIO()
        picture_of(mode, number, *size).save(buffer, format, **options)
        files.append(PictureFile(format, mode, buffer.getvalue()))

    for format, modes in _FILE_MODES.items():
        for mode in modes if format in Image.SAVE else ():
            add(format, mode)
    for format in ("PNG", "JPEG", "WEBP", "TIFF"):
        add(format, "RGB", exif=exif_block(), icc_profile=profile("sRGB"), dpi=(72, 72))
        add(format, "RGB", icc_profile=profile("XYZ"))
    for format in ("PNG", "WEBP", "TIFF", "MPO"):
        add(format, "RGB", save_all=True)
    for compression in _COMPRESSIONS:
        add("TIFF", "RGB", compression=compression)
    add("TIFF", "1", compression="group4")
    add("JPEG", "RGB", progressive=True, quality=20)
    add("WEBP", "RGBA", lossless=True, exif=exif_block())
    add("PNG", "P", transparency=3)
    add("PNG", "RGB", transparency=(1, 2, 3))
    add("PNG", "1", transparency=0)
    for kind, bands in ((0, 1), (2, 3), (4, 2), (6, 4)):
        pixels = np.random.default_rng(kind).integers(0, 256, (20, 1 + 24 * 2 * bands), np.uint8)
        pixels[:, 0] %= 5
        data = png_file(24, 20, 16, kind, zlib.compress(pixels.tobytes()))
        files.append(PictureFile("PNG", f"{bands} of 16 bits", data))
    return tuple(files)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_file(width: int, height: int, bits: int, kind: int, packed: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return PNG_SIGNATURE + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@functools.cache
def profile(space: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


@functools.cache
def exif_block() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    return b"Exif\0\0" + exif.tobytes()
