"""A picture of any kind: the sRGB bytes that the network sees, and its own kind again, filled.

Known pixels never pass through a conversion: the result is a copy of the given numbers in which
only the hole is written. Documented rules:

- Worked on and returned in the displayed orientation; EXIF is kept with the orientation cleared,
  and without its thumbnail, which would show what lay in the hole. XMP, which can hold another
  orientation and another thumbnail, is left out.
- The network sees the numbers converted to sRGB where the picture has another ICC profile; the
  filling is converted back, the profile is kept. A profile without a way back is kept unapplied,
  with a warning.
- Of 16 bits per channel and of floats the network sees 8 bits, up to the white that `number_range`
  finds; the filling keeps to the range and the steps of the known pixels.
- Alpha: the network sees the picture over white, as in training. Alpha stays as it is outside the
  hole; what is filled is opaque.
- A palette becomes RGB, and what is transparent by one colour gets alpha. Rare modes (YCbCr, LAB,
  HSV, premultiplied alpha) become RGB or RGBA, which is said. Every other mode stays.
- Pillow has no mode for 16 bits in several channels: a PNG file of such becomes a uint16 array.
"""

import io
import os
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from gmsrm_jax.data.bad_pictures import named
from gmsrm_jax.data.decoding import DAMAGED
from gmsrm_jax.data.fields import MAX_PIXELS
from gmsrm_jax.data.formats import SUFFIXES
from gmsrm_jax.inference import pixel_layouts as layouts
from gmsrm_jax.inference.icc import Profile, open_profile
from gmsrm_jax.inference.image_files import ImageSource, Upright, as_source, name_of, open_upright
from gmsrm_jax.inference.number_range import NumberRange, find_range
from gmsrm_jax.inference.png_files import write_png
from gmsrm_jax.inference.tiff_files import write_tiff
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically

PictureSource = ImageSource | np.ndarray
FilledPicture = Image.Image | np.ndarray

_ARRAY_LAYOUTS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# Modes that each format holds bit for bit; of others, Pillow or the reader makes something else.
_HELD = {
    "PNG": ("1", "L", "LA", "RGB", "RGBA", "I;16", "I"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "RGB"),
    "TIFF": ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"),
    "JPEG": ("L", "RGB", "CMYK"),
}
_SUFFIXES = {suffix: name for suffix, name in SUFFIXES.items() if name in _HELD}
_MOST_EXIF = 65533 - len("Exif\0\0")
_OPTIONS: dict[str, dict] = {
    "PNG": {"compress_level": 3},
    "WEBP": {"lossless": True, "exact": True},
    "BMP": {},
    "JPEG": {"quality": 95, "subsampling": 0},
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture in the displayed orientation.

    Attributes:
        rgb: uint8 [H, W, 3], sRGB over white: what the network sees.
        alpha: uint8 [H, W], or None.
        layout: how its own pixels are laid out, see `pixel_layouts`.
        stored_size: width and height before the turn of EXIF, in pixels.
        format: Pillow's name of the file format, None if it came from no file.
        name: what messages call it.
        warnings: what could not be kept.
        info: its EXIF data, colour profile and resolution, as Pillow has them.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    layout: str
    stored_size: tuple[int, int]
    format: str | None
    name: str
    warnings: tuple[str, ...]
    info: dict
    _native: np.ndarray
    _shape: tuple[int, ...] | None  # of the array that it goes back as
    _range: NumberRange
    _profile: Profile | None

    @property
    def height(self) -> int:
        """Rows as displayed."""
        return self.rgb.shape[0]

    @property
    def width(self) -> int:
        """Columns as displayed."""
        return self.rgb.shape[1]

    @property
    def is_array(self) -> bool:
        """Whether it is given back as an array: it was one, or has 16 bits in several channels."""
        return self._shape is not None

    def fitted(self, hole: np.ndarray) -> "Picture":
        """Returns the picture with its range of numbers found from the known pixels alone.

        Args:
            hole: bool [H, W]; where all is hole or nothing is, the picture stays as it is.

        Raises:
            UserError: the known numbers are of no range that can be shown; see `find_range`.
        """
        if self._native.dtype in (np.uint8, bool) or hole.all() or not hole.any():
            return self
        found = find_range(self._native, self.layout, self.name, ~hole)
        rgb, alpha = _as_seen(self._native, self.layout, found, self._profile)
        return replace(self, rgb=rgb, alpha=alpha, _range=found)

    def restore(self, filled: np.ndarray, hole: np.ndarray) -> FilledPicture:
        """Writes a filling into a copy of the picture.

        Args:
            filled: uint8 [H, W, 3], sRGB; looked at in the hole only.
            hole: bool [H, W].

        Returns:
            The same kind of picture at the displayed size; every number outside the hole is that
            of the picture.
        """
        native = self._native.copy()
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        if len(rows):
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            where, target = hole[box], native[box]
            plain = layouts.from_srgb(filled[box], layouts.plain_mode(self.layout), self._profile)
            numbers = layouts.from_plain(plain, self.layout, self._range)
            target[where] = numbers[where]
        if self._shape is not None:
            return native.reshape(self._shape)
        image = layouts.as_image(native, self.layout)
        image.info = dict(self.info)
        return image


def open_picture(
    source: "PictureSource | Picture", *, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Picture:
    """Opens a picture of any kind.

    Args:
        source: a path, the bytes of a file, a file object, a Pillow image of any mode, or an array
            of NumPy or JAX, [H, W], [H, W, 1], [H, W, 2] (grey, alpha), [H, W, 3] or [H, W, 4] of
            uint8 or uint16. A `Picture` is returned as it is.
        max_pixels: largest number of pixels accepted, checked before decoding.
        name: what to call it in messages; the path, or "picture".

    Raises:
        UserError: see `open_upright`; an array of another shape or dtype.
    """
    if isinstance(source, Picture):
        return source
    if name is None:
        name = name_of(source, "picture")
    shape, given = None, as_source(source, name)
    if isinstance(given, np.ndarray):
        upright, shape = _of_array(given, max_pixels, name), given.shape
    else:
        upright = open_upright(given, max_pixels, name)
    native, layout, info = upright.native, upright.layout, upright.info
    profile, warning = open_profile(info.get("icc_profile"), layouts.plain_mode(layout), name)
    warnings = [*upright.warnings, warning] if warning else list(upright.warnings)
    if upright.left_out:
        warnings.append(f"{name}: left out of its metadata: {named(upright.left_out)}")
    if native.dtype == np.uint16 and native.ndim == 3:
        shape = native.shape
    found = find_range(native, layout, name)
    rgb, alpha = _as_seen(native, layout, found, profile)
    return Picture(
        rgb=rgb,
        alpha=alpha,
        layout=layout,
        stored_size=upright.stored_size,
        format=upright.format,
        name=name,
        warnings=tuple(warnings),
        info=info,
        _native=native,
        _shape=shape,
        _range=found,
        _profile=profile,
    )


def _as_seen(
    native: np.ndarray, layout: str, numbers: NumberRange, profile: Profile | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """What the network sees, uint8 [H, W, 3], and alpha, uint8 [H, W]."""
    plain, alpha = layouts.to_plain(native, layout, numbers)
    rgb = layouts.to_srgb(plain, profile)
    if alpha is not None and alpha.min() < 255:
        rgb = np.asarray(layouts.over_white(Image.fromarray(rgb), alpha))
    return rgb, alpha


class Encoded(NamedTuple):
    """A picture as the bytes of a file.

    Attributes:
        data: the file.
        lossless: every known pixel in it is that of the picture given.
        notes: what the format could not hold, one line each.
    """

    data: bytes
    lossless: bool
    notes: tuple[str, ...]


def encode_picture(
    picture: FilledPicture, format: str = "PNG", info: dict | None = None
) -> Encoded:
    """Makes a file of a picture, with its EXIF data, resolution and colour profile.

    PNG holds every mode bit for bit but CMYK, which becomes sRGB, and F. WebP is written
    lossless, TIFF deflated; JPEG with the tables and subsampling of the JPEG that the picture comes
    from, otherwise at quality 95 without subsampling.

    Args:
        picture: an image or an array as `Picture.restore` returns.
        format: "PNG", "JPEG", "WEBP", "BMP" or "TIFF".
        info: `Picture.info` of what an array comes from; an image has its own.

    Raises:
        UserError: another format, or one that cannot hold such a picture at all.
    """
    if format not in _HELD:
        raise UserError(f"file format {format!r}; use one of: {', '.join(_HELD)}")
    if not isinstance(picture, Image.Image):
        array = as_source(picture, "picture")
        if not isinstance(array, np.ndarray):
            raise UserError("picture: a path or a file; give an image or an array to be written")
        _of_array(array, array.size, "picture")
        picture = np.squeeze(array, 2) if array.shape[2:] == (1,) else array
        if picture.dtype == np.uint16 and picture.ndim == 3:
            # Grey and alpha of 16 bits in a TIFF is read by few, and not here.
            if format != "PNG" and (format != "TIFF" or picture.shape[2] == 2):
                raise UserError(f"{format} cannot hold 16 bits of several channels; use PNG")
            mode = _ARRAY_LAYOUTS[picture.shape[2]]
            info = info or {}
            data = write_png(picture, info) if format == "PNG" else write_tiff(picture, mode, info)
            return Encoded(data, True, ())
        picture = Image.fromarray(picture)
        picture.info = info or {}
    info, notes = dict(picture.info), []
    if picture.mode not in layouts.LAYOUTS:
        raise UserError(f"Pillow mode {picture.mode}; convert it to RGB")
    if picture.mode not in _HELD[format]:
        note = f"{format} cannot hold {picture.mode}: known pixels are converted to "
        picture, info = layouts.converted(picture, info, _HELD[format])
        notes.append(note + picture.mode)
    if format == "JPEG":
        notes.append("JPEG is lossy: known pixels are re-encoded")
    if format == "BMP" and info.keys() & {"exif", "icc_profile"}:
        notes.append("BMP holds neither EXIF data nor a colour profile: left out")
    if format == "JPEG" and len(info.get("exif", b"")) > _MOST_EXIF:
        notes.append(f"JPEG holds {_MOST_EXIF} bytes of EXIF data, and these are more: left out")
        del info["exif"]
    keys = {"dpi"} if format == "BMP" else {"exif", "icc_profile", "dpi"}
    buffer, bare = io.BytesIO(), picture.copy()
    bare.info = {}
    options = _OPTIONS.get(format, {})
    if format == "JPEG" and "qtables" in info:
        options = {key: info[key] for key in ("qtables", "subsampling")}
    options = options | {key: info[key] for key in sorted(keys & info.keys())}
    try:
        if format == "TIFF":
            buffer.write(write_tiff(np.asarray(picture), picture.mode, info))
        else:
            bare.save(buffer, format, **options)
    except DAMAGED as error:
        raise UserError(
            f"{format} cannot hold a picture of {picture.width} x {picture.height} px, mode "
            f"{picture.mode} ({error}); use PNG"
        ) from error
    lossless = not any("known pixels" in note for note in notes)
    return Encoded(buffer.getvalue(), lossless, tuple(notes))


def format_of(path: str | os.PathLike) -> str:
    """Returns the format that a file's name asks for.

    Raises:
        UserError: a suffix of no format that is written.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"path: {path!r}; give the name of a file")
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _SUFFIXES:
        raise UserError(f"{path}: the suffix {suffix!r}; written are: {', '.join(_SUFFIXES)}")
    return _SUFFIXES[suffix]


def save_picture(
    picture: FilledPicture, path: str | os.PathLike, format: str | None = None
) -> Encoded:
    """Writes a picture to a file, whole or not at all; see `encode_picture`.

    Args:
        picture: an image or an array.
        path: where; missing folders are made, an existing file is replaced.
        format: None takes it from the suffix.

    Returns:
        What was written.

    Raises:
        UserError: see `encode_picture`, or it cannot be written there.
    """
    encoded = encode_picture(picture, format or format_of(path))
    try:
        write_atomically(path, encoded.data)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another") from error
    return encoded


def _of_array(array: np.ndarray, max_pixels: int, name: str) -> Upright:
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if channels not in _ARRAY_LAYOUTS or array.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"{name}: an array of {array.dtype} {list(array.shape)}; give uint8 or uint16 "
            "[height, width] or [height, width, 1 to 4 channels]"
        )
    height, width = array.shape[:2]
    if not height or not width or height * width > max_pixels:
        raise UserError(f"{name}: {width} x {height} px; give 1 to {max_pixels} px (max_pixels)")
    layout = _ARRAY_LAYOUTS[channels]
    if array.dtype == np.uint16:
        layout = "I;16" if channels == 1 else f"{layout};16"
    native = array.reshape(height, width) if channels == 1 else array
    return Upright(native, layout, {}, (width, height), None, ())
