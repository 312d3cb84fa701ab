"""Which kinds of picture files are read, and what brings those that are not read here."""

import importlib
import importlib.util
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from gmsrm_jax.data.tiff_kinds import kind_of

_TAGS = ExifTags.Base
_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
# Bytes 8 to 12 of such files, behind "ftyp".
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_READS_HEIF = importlib.util.find_spec("pillow_heif") is not None
_CURE = "`pip install pillow-heif`"
_NAMED = 10  # suffixes in one line
if _READS_HEIF:
    importlib.import_module("pillow_heif").register_heif_opener()

SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".avif": "AVIF",
    **dict.fromkeys(_HEIF_SUFFIXES if _READS_HEIF else (), "HEIF"),
}
"""Pillow's name of the format by the suffix that a picture is found by in a folder."""
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))


def open_picture_file(stream: IO[bytes]) -> Image.Image:
    """Opens a picture file of `FORMATS` with Pillow, without decoding it.

    Args:
        stream: at its beginning.

    Raises:
        PIL.UnidentifiedImageError: it is of none; says what brings its kind, if anything does. Or
            a kind of TIFF that is not read, such as planes of 16 bits that are not compressed,
            which Pillow takes for such of 8.
    """
    try:
        picture = Image.open(stream, formats=FORMATS)
    except (UnidentifiedImageError, KeyError) as error:  # KeyError: of a TIFF's compression
        kind = kind_of(stream)
        if kind:
            raise _not_read(kind) from error
        stream.seek(0)
        start = stream.read(12)
        what = f"not one of {', '.join(FORMATS)}, whatever its name says"
        if not _READS_HEIF and start[4:8] == b"ftyp" and start[8:] in _HEIF_BRANDS:
            what = f"a HEIF file; {_CURE} lets it be read"
        raise UnidentifiedImageError(what) from error
    tags = tags_of(picture)
    planes = tags.get(_TAGS.PlanarConfiguration) == 2
    deep = planes and tags.get(_TAGS.BitsPerSample, (1,))[0] == 16
    # A single letter says that a plane is unpacked as the bytes of one channel.
    letters = (
        [tile.args[0] for tile in picture.tile if isinstance(tile.args, tuple)] if deep else []
    )
    if any(len(letter) == 1 for letter in letters):
        raise _not_read(kind_of(stream))
    return picture


def _not_read(kind: str) -> UnidentifiedImageError:
    return UnidentifiedImageError(f"a TIFF file of {kind}, which is not read")


def tags_of(picture: Image.Image) -> Mapping[int, Any]:
    """The tags of a picture that was opened from a TIFF file; none of others."""
    return picture.tag_v2 if isinstance(picture, TiffImageFile) else {}


def counted(suffixes: Counter[str]) -> str:
    """Names suffixes that are not read, with their numbers, and what brings those that it can."""
    order = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    words = ", ".join(f"{n} × {suffix}" for suffix, n in order[:_NAMED])
    more = f", and {len(suffixes) - _NAMED} other kinds" if len(suffixes) > _NAMED else ""
    heif = ", ".join(suffix for suffix in _HEIF_SUFFIXES if suffix in suffixes)
    return words + more + (f"; {_CURE} for {heif}" if heif else "")
