"""Which kinds of picture files are read, and what brings those that are not read here."""

import importlib
import importlib.util
from collections import Counter
from typing import IO, NamedTuple

from PIL import Image, UnidentifiedImageError, features


class _Kind(NamedTuple):
    """A kind of file that not every Pillow reads.

    Attributes:
        suffixes: of its files.
        brands: bytes 8 to 12 of its files, behind "ftyp".
        cure: what brings it.
    """

    suffixes: tuple[str, ...]
    brands: tuple[bytes, ...]
    cure: str


_OPTIONAL = {
    "AVIF": _Kind((".avif",), (b"avif", b"avis"), "pip install --upgrade pillow"),
    "HEIF": _Kind(
        (".heic", ".heif", ".hif"),
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        "pip install pillow-heif",
    ),
}
_NAMED = 10  # suffixes in one line


def _is_there(kind: str) -> bool:
    if kind == "AVIF":
        return bool(features.check("avif"))
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


_LACKING = {name: kind for name, kind in _OPTIONAL.items() if not _is_there(name)}
SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **{
        suffix: name
        for name, kind in _OPTIONAL.items()
        if name not in _LACKING
        for suffix in kind.suffixes
    },
}
"""Pillow's name of the format by the suffix that a picture is found by in a folder."""
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))


def open_picture_file(stream: IO[bytes]) -> Image.Image:
    """Opens a picture file of `FORMATS` with Pillow, without decoding it.

    Args:
        stream: at its beginning.

    Raises:
        PIL.UnidentifiedImageError: it is of none; says what brings its kind, if anything does.
    """
    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        stream.seek(0)
        start = stream.read(12)
        what = f"not one of {', '.join(FORMATS)}, whatever its name says"
        for name, kind in _LACKING.items():
            if start[4:8] == b"ftyp" and start[8:] in kind.brands:
                what = f"a {name} file; `{kind.cure}` lets it be read"
        raise UnidentifiedImageError(what) from error


def counted(suffixes: Counter[str]) -> str:
    """Names suffixes that are not read, with their numbers, and what brings those that it can."""
    order = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    words = ", ".join(f"{n} × {suffix}" for suffix, n in order[:_NAMED])
    more = f", and {len(suffixes) - _NAMED} other kinds" if len(suffixes) > _NAMED else ""
    cures = [
        f"; `{kind.cure}` for {suffix}"
        for kind in _LACKING.values()
        for suffix in kind.suffixes
        if suffix in suffixes
    ]
    return words + more + "".join(cures)
