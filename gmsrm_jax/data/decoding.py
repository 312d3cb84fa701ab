"""From a picture file's bytes to upright RGB, and to the square of the test rule. Pillow and NumPy.

Training and evaluation read their pictures here, or plain JPEGs with TensorFlow's decoder, which
makes the same pixels of them. Filling for people, which keeps a picture's own kind and reads any
size, has `inference.image_files`; it shares the formats, the turns and the words for failures.
"""

import io
import os
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from gmsrm_jax.data.fields import MAX_PIXELS
from gmsrm_jax.data.formats import open_picture_file, tags_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.unreadable import UNREADABLE

MIN_SIDE = 32  # pixels; nothing smaller can fill a training crop with detail
# What Pillow's decoders raise for files with absurd content.
DAMAGED = (
    *UNREADABLE,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    zlib.error,
)

# Codecs of a Header.
JPEG = 0  # 8-bit grey or RGB JPEG
PILLOW = 1  # anything else

_SHORT = 257  # 255 * 257 = 65535
ORIENTATION = int(ExifTags.Base.Orientation)
_XMP = ("xmp", "XML:com.adobe.xmp")  # where Pillow would look for it, too, and viewers do not
# How a stored picture of each EXIF orientation is turned to be displayed.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadablePicture(UserError):
    """A picture that cannot be used.

    Attributes:
        reason: why, without the name of the file.
    """

    def __init__(self, reason: str, name: str = "picture") -> None:
        """Makes the message from the name and the reason."""
        super().__init__(f"{name}: {reason}; save it again as PNG or JPEG, or remove it")
        self.reason = reason


class Header(NamedTuple):
    """What the beginning of a picture file says.

    Attributes:
        codec: JPEG or PILLOW.
        orientation: EXIF orientation of a JPEG, 1 to 8; 1 for PILLOW, which gives pictures upright.
        height: rows as stored, before any turn.
        width: columns as stored.
        kind: file format and Pillow's name of the pixel format, such as "JPEG RGB".
    """

    codec: int
    orientation: int
    height: int
    width: int
    kind: str


def read_header(file: str | os.PathLike | BinaryIO, max_pixels: int = MAX_PIXELS) -> Header:
    """Reads a picture's header, without decoding it.

    Args:
        file: a path, or a binary file at its beginning.
        max_pixels: largest number of pixels accepted.

    Raises:
        UnreadablePicture: empty, no picture, too many pixels, or a side below MIN_SIDE.
    """
    try:
        if isinstance(file, str | os.PathLike):
            with open(file, "rb") as stream:
                return _header(stream, max_pixels)
        return _header(file, max_pixels)
    except DAMAGED as error:
        raise UnreadablePicture(reason_of(error)) from error


def decode_image(encoded: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a picture file: upright (EXIF), RGB, transparent parts over white.

    Grey of 16 bits becomes 8 rounded, 65535 being 255; of colour of 16 bits Pillow gives the upper
    half only. CMYK and palettes are converted.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UnreadablePicture: it cannot be decoded to the end, has too many pixels, a side below
            MIN_SIDE, or 32 bits per channel.
    """
    if not encoded:
        raise UnreadablePicture("the file is empty")
    try:
        with open_picture_file(io.BytesIO(encoded)) as picture:
            _check_size(picture, max_pixels)
            return _to_rgb(upright(picture))
    except DAMAGED as error:
        raise UnreadablePicture(reason_of(error)) from error


def resize_for_test(
    image: np.ndarray, size: int, shorter_side: float, test_resize: str, nearest: bool = False
) -> np.ndarray:
    """Resizes a picture by the test rule, with Pillow's antialiased bicubic.

    Args:
        image: uint8 [H, W, 3], or [H, W] of a mask.
        size: side S of the result in pixels.
        shorter_side: shorter side before the centre crop, in units of S; at least 1.
        test_resize: "shorter_side": the shorter side becomes round(shorter_side * S), then the
            centre S x S is cut out, offsets rounded down; "direct": straight to S x S.
        nearest: takes the nearest pixel, as a mask needs it.

    Returns:
        uint8 [S, S, 3], or [S, S] of a mask.
    """
    picture = Image.fromarray(image)
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
    if test_resize == "direct":
        return np.array(picture.resize((size, size), how))
    scale = round(shorter_side * size) / min(picture.size)
    width, height = round(picture.width * scale), round(picture.height * scale)
    left, top = (width - size) // 2, (height - size) // 2
    resized = picture.resize((width, height), how)
    return np.array(resized.crop((left, top, left + size, top + size)))


def orientation_of(picture: Image.Image) -> int:
    """Returns the EXIF orientation that the decoded pixels come in, a key of TURNS or 1."""
    if picture.format == "TIFF":  # Pillow turns these itself
        return 1
    info = picture.info
    try:
        picture.info = {key: value for key, value in info.items() if key not in _XMP}
        turn = picture.getexif().get(ORIENTATION, 1)
    except DAMAGED:  # metadata that are no EXIF; the pixels can be good all the same
        return 1
    finally:
        picture.info = info
    return int(turn) if turn in range(1, 9) else 1


def forget_xmp(picture: Image.Image) -> None:
    """Lets a TIFF be turned, as viewers do, by its own orientation and not by that of its XMP."""
    for key in _XMP:
        picture.info.pop(key, None)


def reason_of(error: BaseException) -> str:
    """Says in a few words, without the file's name, why Pillow could not read a picture."""
    if isinstance(error, Image.UnidentifiedImageError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return "far too many pixels"
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"damaged ({' '.join(str(error).split())})"


def _header(stream: BinaryIO, max_pixels: int) -> Header:
    if not stream.read(1):
        raise UnreadablePicture("the file is empty")
    stream.seek(0)
    with open_picture_file(stream) as picture:
        _check_size(picture, max_pixels)
        # Phones write JPEGs with a second picture behind the first, which Pillow calls MPO.
        plain = picture.format in ("JPEG", "MPO") and picture.mode in ("L", "RGB")
        codec, orientation = (JPEG, orientation_of(picture)) if plain else (PILLOW, 1)
        kind = f"{picture.format} {picture.mode}"
        return Header(codec, orientation, picture.height, picture.width, kind)


def upright(picture: Image.Image) -> Image.Image:
    """Returns a picture as its EXIF says that it is displayed."""
    # ImageOps.exif_transpose also writes the metadata anew, which fails where they are not valid.
    forget_xmp(picture)
    picture.load()
    return turned(picture, orientation_of(picture))


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    """A decoded picture with an EXIF orientation undone, and its black at 0."""
    negative = tags_of(picture).get(ExifTags.Base.PhotometricInterpretation) == 0
    if negative and picture.mode.startswith("I;16"):  # Pillow turns those of 8 bits itself
        picture = Image.fromarray(65535 - np.asarray(picture).astype(np.uint16))
    return picture.transpose(TURNS[orientation]) if orientation > 1 else picture


def _check_size(picture: Image.Image, max_pixels: int) -> None:
    if picture.width * picture.height > max_pixels:
        raise UnreadablePicture(
            f"{picture.width} x {picture.height} px are more than data.max_pixels = {max_pixels}"
        )
    if min(picture.size) < MIN_SIDE:
        raise UnreadablePicture(
            f"{picture.width} x {picture.height} px, and a side needs {MIN_SIDE} px"
        )


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I;16"):  # convert() would cut 16 bits off at 255
        short = np.asarray(picture).astype(np.uint32)
        grey = ((short + _SHORT // 2) // _SHORT).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise UnreadablePicture("32 bits per channel")
    if picture.has_transparency_data:
        # Below transparent pixels files hold arbitrary colours that nobody is meant to see.
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
