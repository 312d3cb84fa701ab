"""Pictures side by side, and pictures as PNG bytes."""

import io

import numpy as np
from PIL import Image

_WHITE = 255


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
