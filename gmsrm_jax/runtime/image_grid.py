"""Pictures side by side, and pictures as PNG bytes."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_WHITE, _HOLE_GREY = 255, 127
_INK = (28, 33, 36)


def grid(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Arranges pictures in rows, from the top left, on white.

    Args:
        images: uint8 [N, H, W, 3], N at least 1.
        columns: pictures in one row.
        gap: white pixels between two pictures.

    Returns:
        uint8 [R·(H+gap) - gap, C·(W+gap) - gap, 3] with C = min(columns, N), R = ceil(N/C).

    Raises:
        ValueError: `images` is not uint8 [N, H, W, 3], or `columns` is below 1.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise ValueError(f"images must be uint8 [N, H, W, 3], got {images.dtype} {images.shape}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    count, height, width, _ = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3), _WHITE, np.uint8
    )
    for index, image in enumerate(images):
        top = index // columns * (height + gap)
        left = index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def upscale(images: np.ndarray, factor: int) -> np.ndarray:
    """Repeats every pixel of [..., H, W, C] `factor` times in both directions."""
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def mask_picture(mask: np.ndarray) -> np.ndarray:
    """A mask [..., S, S, 1] of 0 and 1 as a uint8 RGB picture [..., S, S, 3]: white is the hole."""
    return np.repeat(mask.astype(np.uint8) * np.uint8(_WHITE), 3, axis=-1)


def holed(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pictures uint8 [..., S, S, 3] with grey where the mask [..., S, S, 1] is above 0."""
    return np.where(mask > 0, np.uint8(_HOLE_GREY), images)


def outline(image: np.ndarray, mask: np.ndarray, width: int = 1) -> np.ndarray:
    """Draws a line around the hole: white next to it, black outside of that.

    The two tones are seen on bright and on dark pictures. They lie on known pixels, so that every
    filled pixel stays as it is; where the hole meets the border of the picture, there is no line.

    Args:
        image: uint8 [S, S, 3].
        mask: [S, S, 1] of 0 and 1, 1 in the hole.
        width: thickness of each tone [px]: white are the known pixels at a chessboard distance of
            1 to `width` from the hole, black those at `width` + 1 to 2·`width`.

    Returns:
        uint8 [S, S, 3], a new array.
    """
    from scipy import ndimage  # takes a while to import, and few draw outlines

    hole = mask[..., 0] > 0
    near = ndimage.maximum_filter(hole, 2 * width + 1, mode="constant")
    far = ndimage.maximum_filter(hole, 4 * width + 1, mode="constant")
    drawn = image.copy()
    drawn[far & ~near] = 0
    drawn[near & ~hole] = _WHITE
    return drawn


def labelled_sheet(
    labels: Sequence[str], rows: Sequence[Sequence[np.ndarray]], gap: int = 4
) -> np.ndarray:
    """Rows of equal pictures with a label below every column, on white, as in a paper's figure.

    Args:
        labels: C texts; long ones go on in further lines.
        rows: R rows of C pictures, uint8 [H, W, 3], W at least 64.
        gap: white pixels between two pictures.

    Returns:
        uint8 [about R·(H+gap) + text, C·(W+gap) - gap, 3].
    """
    pictures = np.stack([picture for row in rows for picture in row])
    sheet = grid(pictures, len(labels), gap)
    width = pictures.shape[2]
    size = max(12, width // 14)
    font = ImageFont.load_default(size)
    wrapped = [_wrapped(label, font, width) for label in labels]
    line_height = round(size * 1.3)
    height = line_height * max(map(len, wrapped)) + gap
    canvas = Image.fromarray(np.pad(sheet, ((0, height), (0, 0), (0, 0)), constant_values=_WHITE))
    draw = ImageDraw.Draw(canvas)
    for column, lines in enumerate(wrapped):
        for number, line in enumerate(lines):
            middle = column * (width + gap) + width / 2
            top = sheet.shape[0] + gap + number * line_height
            draw.text((middle, top), line, _INK, font, anchor="ma")
    return np.asarray(canvas)


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """Lines that fit the width where there is a space to break at."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def to_png(image: np.ndarray) -> bytes:
    """Encodes uint8 [H, W, 3] (RGB), [H, W, 1] or [H, W] (grey) as PNG.

    Raises:
        ValueError: another type or shape.
    """
    grey = image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 1)
    if image.dtype != np.uint8 or not (grey or (image.ndim == 3 and image.shape[-1] == 3)):
        raise ValueError(
            f"need uint8 [H, W, 3], [H, W, 1] or [H, W], got {image.dtype} {image.shape}"
        )
    pixels = image.reshape(image.shape[:2]) if grey else image
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
