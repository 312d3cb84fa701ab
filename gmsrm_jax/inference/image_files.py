"""From a file, bytes or a Pillow image to decoded pixels in the displayed orientation.

Whatever the file says about itself is taken for hostile: only known formats are looked at, the size
is checked before anything is decoded, and a picture is decoded to its end before it counts as read.
"""

import io
import os
from numbers import Real
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin

from gmsrm_jax.data.decoding import (
    DAMAGED,
    FORMATS,
    ORIENTATION,
    TURNS,
    orientation_of,
    reason_of,
)
from gmsrm_jax.inference.array_png import decode_png
from gmsrm_jax.runtime.errors import UserError

ImageSource = str | os.PathLike | bytes | bytearray | Image.Image

# Tags of a TIFF file that tell of the picture and not of how its pixels are stored.
_DESCRIPTIVE_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853)
_SUB_IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_KEPT_INFO = {
    "icc_profile": "colour profile",
    "dpi": "resolution",
    "transparency": "transparent colour",
}
_MOST_DPI = 65535  # that a JPEG file can say
# How many numbers the transparent colour of a mode has.
_KEY_LENGTHS = {"1": 1, "L": 1, "P": 1, "I": 1, "I;16": 1, "RGB": 3}


class Upright(NamedTuple):
    """A decoded picture as it is displayed.

    Attributes:
        image: the pixels; `info` holds icc_profile, exif, dpi and transparency if there were
            such, without EXIF's orientation and thumbnail, and of a JPEG its
            qtables and subsampling.
        stored_size: width and height before any turn, in pixels.
        format: Pillow's name of the file format, None for a picture that comes from no file.
        orientation: EXIF's number of the turn that was made, 1 to 8.
        deep: uint16 [H, W, channels], turned, for a file with 16 bits in each of several channels,
            of which `image` holds the upper halves; None for others.
        warnings: what was left out.
    """

    image: Image.Image
    stored_size: tuple[int, int]
    format: str | None
    orientation: int
    deep: np.ndarray | None
    warnings: tuple[str, ...]


def open_upright(source: ImageSource, max_pixels: int, name: str) -> Upright:
    """Decodes a picture whole and turns it as its EXIF orientation says.

    Args:
        source: a path, the bytes of a file, or a Pillow image, which stays as it is.
        max_pixels: largest number of pixels accepted.
        name: what to call it in messages.

    Raises:
        UserError: missing, none of the known formats, cut short, damaged, or too many pixels.
    """
    if isinstance(source, Image.Image):
        return _decode(source, max_pixels, name)
    if isinstance(source, bytes | bytearray):
        return _open(io.BytesIO(source), max_pixels, name)
    path = Path(source)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not there" if not path.exists() else "no file"
        raise UserError(f"{path}: {what}; give a picture file ({', '.join(FORMATS)})")
    try:
        with path.open("rb") as stream:
            return _open(stream, max_pixels, name)
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); allow reading it") from error


def _open(stream: IO[bytes], max_pixels: int, name: str) -> Upright:
    try:
        with Image.open(stream, formats=FORMATS) as image:
            deep = _is_deep(image)
            upright = _decode(image, max_pixels, name, deep)
        if not deep:
            return upright
        stream.seek(0)
        pixels = decode_png(stream.read(), name) if upright.format == "PNG" else None
        if pixels is None:
            upright.image.info.pop("transparency", None)  # a colour of 16 bits, of which 8 are read
            return upright._replace(warnings=(*upright.warnings, _lost_bits(name)))
        return upright._replace(deep=_turned(pixels, upright.orientation))
    except DAMAGED as error:
        raise UserError(f"{name}: {reason_of(error)}; save it again as PNG or JPEG") from error


def _decode(image: Image.Image, max_pixels: int, name: str, deep: bool = False) -> Upright:
    width, height = stored_size = image.size
    if width * height > max_pixels:
        raise UserError(
            f"{name}: {width} x {height} px are more than the limit of {max_pixels} px; "
            "scale it down, or raise max_pixels"
        )
    if not width or not height:
        raise UserError(f"{name}: {width} x {height} px; give a picture with pixels")
    warnings = []
    try:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            warnings.append(f"{name}: only the first of its {frames} pictures is used")
        if image.format == "TIFF":  # its file is closed once it is decoded
            for tag in _SUB_IFDS:
                image.getexif().get_ifd(tag)
    except DAMAGED:
        warnings.append(f"{name}: a part of its EXIF data is damaged and left out")
    try:
        image.load()
        orientation = orientation_of(image)
        turned = image.transpose(TURNS[orientation]) if orientation > 1 else image.copy()
    except DAMAGED as error:
        raise UserError(f"{name}: {reason_of(error)}; save it again as PNG or JPEG") from error
    info: dict[Any, Any] = {}
    for key, meaning in _KEPT_INFO.items():
        value = image.info.get(key)
        if value in (None, (0, 0)):  # not given; BMP and TIFF files say 0 of a resolution then
            continue
        if _is_usable(key, value, image.mode, deep):
            info[key] = value
        else:
            warnings.append(f"{name}: its {meaning} is damaged and left out")
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        info["qtables"] = image.quantization
        info["subsampling"] = JpegImagePlugin.get_sampling(image)
    if orientation > 4 and "dpi" in info:
        info["dpi"] = info["dpi"][::-1]
    try:
        info |= _metadata(image)
    except DAMAGED as error:
        warnings.append(f"{name}: its EXIF data are damaged and left out ({error})")
    turned.info = info
    return Upright(turned, stored_size, image.format, orientation, None, tuple(warnings))


def _is_usable(key: str, value: Any, mode: str, deep: bool) -> bool:
    """Returns whether an entry of a picture's `info` is what it should be; files hold anything."""
    if key == "icc_profile":
        return isinstance(value, bytes)
    numbers = value if isinstance(value, tuple) else (value,)
    if key == "dpi":
        real = all(isinstance(number, Real) for number in numbers)
        return len(numbers) == 2 and real and all(not n <= 0 and n <= _MOST_DPI for n in numbers)
    if mode == "P" and isinstance(value, bytes):
        return len(value) <= 256
    white = 65535 if deep or mode in ("I", "I;16") else 255
    whole = all(isinstance(number, int) and 0 <= number <= white for number in numbers)
    return len(numbers) == _KEY_LENGTHS.get(mode) and whole


def _is_deep(image: Image.Image) -> bool:
    """Returns whether a file has 16 bits in each of several channels; Pillow keeps the upper 8."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    tile = getattr(image, "tile", None)
    codec = tile[0].args if tile else None
    raw = codec if isinstance(codec, str) else codec[0] if codec else ""
    return ";16" in str(raw)


def _lost_bits(name: str) -> str:
    return (
        f"{name}: 16 bits per channel are read as 8; give an array of uint16, or a PNG file "
        "without interlacing"
    )


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


def _metadata(image: Image.Image) -> dict[str, bytes]:
    """Returns the EXIF data, without the turn that was made and without the thumbnail.

    Raises:
        ValueError: there are such, but none can be read; what else DAMAGED names, too.
    """
    raw = image.info.get("exif")
    exif = image.getexif()
    if isinstance(raw, bytes) and raw:
        # Written anew without its second directory, whose thumbnail shows what lay in the hole.
        exif = Image.Exif()
        exif.load(raw)
        if not len(exif):
            raise ValueError("nothing can be read")
    if image.format == "TIFF":
        for tag in set(exif) - set(_DESCRIPTIVE_TAGS):
            del exif[tag]
    elif ORIENTATION in exif:
        del exif[ORIENTATION]
    return {"exif": exif.tobytes()} if len(exif) else {}
