"""From a file, bytes or a Pillow image to decoded pixels in the displayed orientation.

Whatever the file says about itself is taken for hostile: only known formats are looked at, the size
is checked before anything is decoded, and a picture is decoded to its end before it counts as read.
"""

import io
import os
import sys
from numbers import Real
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from gmsrm_jax.data.decoding import (
    DAMAGED,
    ORIENTATION,
    forget_xmp,
    orientation_of,
    reason_of,
    turned,
)
from gmsrm_jax.data.formats import FORMATS, open_picture_file
from gmsrm_jax.inference.pixel_layouts import LAYOUTS
from gmsrm_jax.inference.tiff_files import (
    DESCRIPTIVE,
    SUB_IFDS,
    X_RESOLUTION,
    as_stored,
    left_out,
)
from gmsrm_jax.runtime.errors import UserError

ImageSource = str | os.PathLike | bytes | bytearray | memoryview | IO[bytes] | Image.Image

_TAGS = ExifTags.Base
_KEPT_INFO = {
    "icc_profile": "colour profile",
    "dpi": "resolution",
    "transparency": "transparent colour",
}
_NOT_KEPT = {
    "xmp": "XMP",
    "XML:com.adobe.xmp": "XMP",
    "photoshop": "IPTC",
    "comment": "comment",
    "Raw profile type exif": "",  # is kept, as EXIF data
}
_LONG = 200  # characters of a path in a message
_MOST_DPI = 65535  # that a JPEG file can say
# How many numbers the transparent colour of a mode has.
_KEY_LENGTHS = {"1": 1, "L": 1, "P": 1, "I;16": 1, "RGB": 3}
# Layouts of 16 bits in several channels, by how Pillow unpacks their upper bytes; and how it has to
# unpack to give the lower ones, those of another byte order, or of grey and alpha all four bytes.
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_DEEP = {
    f"{mode};16{order}": (f"{mode};16", f"{mode};16{other}")
    for mode in ("RGB", "RGBA")
    for order, other in _OTHER_ORDER.items()
}
_DEEP["LA;16B"] = ("LA;16", "RGBA")


class Upright(NamedTuple):
    """A decoded picture as it is displayed.

    Attributes:
        native: its numbers, [H, W] or [H, W, C].
        layout: how they are laid out, see `pixel_layouts`.
        info: icc_profile, exif and dpi if there were such, without EXIF's orientation and
            thumbnail, and of a JPEG its qtables and subsampling.
        stored_size: width and height before any turn, in pixels.
        format: Pillow's name of the file format, None for a picture that comes from no file.
        warnings: what is odd about its pixels or could not be read.
        left_out: names of metadata that are not kept.
    """

    native: np.ndarray
    layout: str
    info: dict[str, Any]
    stored_size: tuple[int, int]
    format: str | None
    warnings: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def as_source(source: Any, name: str) -> str | os.PathLike | bytes | Image.Image | np.ndarray:
    """What somebody gave as a picture, with file objects read and arrays as NumPy's.

    Args:
        source: an `ImageSource`, or an array of NumPy, JAX or whatever NumPy can take.
        name: what to call it in messages.

    Raises:
        UserError: it is none of these, or a file that is closed or opened as text.
    """
    if isinstance(source, str | os.PathLike | Image.Image):
        return source
    try:
        if isinstance(source, bytes | bytearray | memoryview):
            return bytes(source)
        if hasattr(source, "read"):
            if source.seekable():
                source.seek(0)
            data = source.read()
            if isinstance(data, bytes):
                return data
            raise UserError(f'{name}: a file opened as text; open it as bytes, with "rb"')
        if hasattr(source, "__array__"):
            return np.asarray(source)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{name}: cannot be read ({error}); give a path") from error
    raise UserError(
        f"{name}: of type {type(source).__name__}; give a path, the bytes of a file, a file "
        "object, a Pillow image or an array"
    )


def name_of(source: Any, otherwise: str) -> str:
    """What to call a source in messages: its path, if it has one."""
    name = getattr(source, "name", None) if hasattr(source, "read") else source
    return os.fsdecode(name) if isinstance(name, str | os.PathLike) else otherwise


def open_upright(
    source: str | os.PathLike | bytes | Image.Image, max_pixels: int, name: str
) -> Upright:
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
    if isinstance(source, bytes):
        return _open(io.BytesIO(source), max_pixels, name)
    path = Path(source)
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "not there" if not path.exists() else "no file"
            raise UserError(f"{path}: {what}; give a picture file ({', '.join(FORMATS)})")
        with path.open("rb") as stream:
            return _open(stream, max_pixels, name)
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); allow reading it") from error
    except OSError as error:
        shown = str(path) if len(str(path)) < _LONG else f"{str(path)[:_LONG]}…"
        raise UserError(f"{shown}: cannot be read ({error.strerror}); give a file") from error


def _open(stream: IO[bytes], max_pixels: int, name: str) -> Upright:
    try:
        with open_picture_file(stream) as image:
            unpacking = _unpacking(image)
            if ";16" not in unpacking or image.mode not in ("RGB", "RGBA", "LA", "CMYK"):
                return _decode(image, max_pixels, name)
            layout, other = _DEEP.get(unpacking, ("", ""))
            if not layout:
                image.info.pop("transparency", None)  # a colour of 16 bits, of which 8 are read
                upright = _decode(image, max_pixels, name)
                lost = f"{name}: 16 bits per channel are read as 8; give a PNG file or an array"
                return upright._replace(warnings=(*upright.warnings, lost))
            key = image.info.pop("transparency", None)
            upright = _decode(image, max_pixels, name)
            turn = orientation_of(image)
        stream.seek(0)
        with Image.open(stream, formats=(str(upright.format),)) as image:
            forget_xmp(image)
            image.tile = [tile._replace(args=_unpacked(other, tile.args)) for tile in image.tile]
            lower = np.asarray(turned(image, turn))
        if layout == "LA;16":
            pixels = lower.view(">u2").astype(np.uint16)
        else:
            pixels = upright.native.astype(np.uint16) << 8 | lower
        return upright._replace(**_with_alpha(pixels, layout, key))
    except DAMAGED as error:
        stream.seek(0, os.SEEK_END)
        reason = reason_of(error) if stream.tell() else "the file is empty"
        raise UserError(f"{name}: {reason}; save it again as PNG or JPEG") from error


def _unpacked(unpacking: str, args: Any) -> Any:
    return unpacking if isinstance(args, str) else (unpacking, *args[1:])


def _decode(image: Image.Image, max_pixels: int, name: str) -> Upright:
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
        if isinstance(image, TiffImageFile):  # its file is closed once it is decoded
            stored_size = tuple(image.tag_v2[tag] for tag in (_TAGS.ImageWidth, _TAGS.ImageLength))
            forget_xmp(image)
            for tag in SUB_IFDS:
                if tag in image.getexif():
                    image.getexif().get_ifd(tag)
    except DAMAGED:
        warnings.append(f"{name}: a part of its EXIF data is damaged and left out")
    try:
        image.load()
        orientation = orientation_of(image)
        upright = turned(image, orientation).copy()
    except DAMAGED as error:
        raise UserError(f"{name}: {reason_of(error)}; save it again as PNG or JPEG") from error
    info: dict[Any, Any] = {}
    for key, meaning in _KEPT_INFO.items():
        value = image.info.get(key)
        if value in (None, (0, 0)):  # not given; BMP and TIFF files say 0 of a resolution then
            continue
        if key == "dpi" and isinstance(image, TiffImageFile) and X_RESOLUTION not in image.tag_v2:
            continue  # Pillow says 1 then
        if _is_usable(key, value, image.mode):
            info[key] = value
        else:
            warnings.append(f"{name}: its {meaning} is damaged and left out")
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        info["qtables"] = image.quantization
        info["subsampling"] = JpegImagePlugin.get_sampling(image)
    if isinstance(image, TiffImageFile):
        bands = len(image.getbands())
        if image.tag_v2.get(_TAGS.SamplesPerPixel, 1) > bands:
            warnings.append(f"{name}: only the first {bands} of its bands are used")
    if orientation > 4 and "dpi" in info:
        info["dpi"] = info["dpi"][::-1]
    try:
        info |= _metadata(image)
    except DAMAGED as error:
        warnings.append(f"{name}: its EXIF data are damaged and left out ({error})")
    key = info.pop("transparency", None)
    if key is not None and upright.mode == "I;16":
        pixels = np.asarray(upright)[..., None]
        kept = _with_alpha(pixels, "LA;16", key)
    else:
        upright.info = {} if key is None else {"transparency": key}
        kind = upright.mode
        try:
            upright = _in_a_layout(upright)
        except DAMAGED as error:
            raise UserError(f"{name}: Pillow mode {kind}; convert it to RGB") from error
        if upright.mode != kind and kind not in _KEY_LENGTHS and not kind.startswith("I;16"):
            warnings.append(f"{name}: mode {kind} is read as {upright.mode}")
        kept = {"native": np.asarray(upright), "layout": upright.mode}
    return Upright(
        **kept,
        info=info,
        stored_size=stored_size,
        format=image.format,
        warnings=tuple(warnings),
        left_out=_left_out(image),
    )


def _left_out(image: Image.Image) -> tuple[str, ...]:
    """Names of a decoded file's metadata that tell of the picture but are not kept."""
    if isinstance(image, TiffImageFile):
        return tuple(left_out(image.tag_v2))
    names = [_NOT_KEPT.get(str(key), "") for key in image.info]
    if isinstance(image, PngImagePlugin.PngImageFile):
        names += [_NOT_KEPT.get(key, key) for key in image.text]
    return tuple(dict.fromkeys(filter(None, names)))


def _in_a_layout(image: Image.Image) -> Image.Image:
    """The picture in a mode of `LAYOUTS`, with alpha where it was transparent in another way."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in LAYOUTS and not image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    return image.convert("LA" if image.mode in ("1", "L", "La") else "RGBA")


def _with_alpha(pixels: np.ndarray, layout: str, key: Any) -> dict[str, Any]:
    """Pixels of 16 bits [H, W, C], transparent where they have one colour, and their layout."""
    if key is None:
        return {"native": pixels, "layout": layout}
    alpha = np.where((pixels != np.asarray(key)).any(2), np.uint16(65535), np.uint16(0))
    layout = "LA;16" if pixels.shape[2] == 1 else "RGBA;16"
    return {"native": np.dstack([pixels, alpha]), "layout": layout}


def _is_usable(key: str, value: Any, mode: str) -> bool:
    """Returns whether an entry of a picture's `info` is what it should be; files hold anything."""
    if key == "icc_profile":
        return isinstance(value, bytes)
    numbers = value if isinstance(value, tuple) else (value,)
    if key == "dpi":
        real = all(isinstance(number, Real) for number in numbers)
        return len(numbers) == 2 and real and all(not n <= 0 and n <= _MOST_DPI for n in numbers)
    if mode == "P" and isinstance(value, bytes):
        return len(value) <= 256
    white = 65535 if mode == "I;16" else 255
    whole = all(isinstance(number, int) and 0 <= number <= white for number in numbers)
    return len(numbers) == _KEY_LENGTHS.get(mode) and whole


def _unpacking(image: Image.Image) -> str:
    """How Pillow unpacks a file's pixels, such as "RGB;16B"; it keeps the upper 8 bits of these."""
    tile = getattr(image, "tile", None)
    codec = tile[0].args if tile else None
    return str(codec if isinstance(codec, str) else codec[0] if codec else "")


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
        everything, exif = exif, Image.Exif()
        for tag in set(everything) & set(DESCRIPTIVE):
            if tag in SUB_IFDS:
                exif.get_ifd(tag).update(everything.get_ifd(tag))
            else:
                exif[tag] = everything[tag]
    elif ORIENTATION in exif:
        del exif[ORIENTATION]
    for tag, value in exif.items():
        exif[tag] = as_stored(value)
    return {"exif": exif.tobytes()} if len(exif) else {}
