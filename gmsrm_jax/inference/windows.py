"""Square windows of a picture, at the size of the network, and back."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from gmsrm_jax.inference.regions import Box, any_in_cells

_MUCH = 2  # a window of more than so many times the picture's pixels is mirrored after scaling


class Window(NamedTuple):
    """A square of side² pixels from (top, left) on; it may reach beyond the picture."""

    top: int
    left: int
    side: int

    def inside(self, height: int, width: int) -> Box:
        """Returns the part that lies in a picture of this size."""
        box = Box(self.top, self.left, self.top + self.side, self.left + self.side)
        return box.grown(0, (height, width))


def centred(box: Box, side: int, height: int, width: int) -> Window:
    """Returns the window around the middle of a box, moved into the picture as far as it fits."""
    return Window(
        _start((box.top + box.bottom) // 2, side, height),
        _start((box.left + box.right) // 2, side, width),
        side,
    )


def cut(
    rgb: np.ndarray, hole: np.ndarray, window: Window, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts out what the network sees.

    What lies beyond the picture is its mirror image, holes included. Scaled down or up, a pixel is
    hole if any of its cell is, and no colour of the hole leaks into known pixels: colours are
    weighted by how much of them is known.

    Args:
        rgb: uint8 [H, W, 3].
        hole: bool [H, W].
        window: the square.
        size: side S of the result in pixels.

    Returns:
        uint8 [S, S, 3] and bool [S, S].
    """
    height, width = hole.shape
    if window.side > size and window.side**2 > _MUCH * hole.size:
        # Of a picture so narrow the mirrored window would be many pictures large: scaled first.
        scale = size / window.side
        rows, columns = (max(1, round(side * scale)) for side in hole.shape)
        place = Window(round(window.top * scale), round(window.left * scale), size)
        return cut(*scaled(rgb, hole, rows, columns), place, size)
    block, mask = rgb, hole
    if window != (0, 0, height) or height != width:
        rows = _mirrored(window.top, window.side, height)
        columns = _mirrored(window.left, window.side, width)
        block, mask = rgb[rows][:, columns], hole[rows][:, columns]
    if window.side == size:
        return np.ascontiguousarray(block), np.ascontiguousarray(mask)
    return scaled(block, mask, size, size)


def scaled(
    rgb: np.ndarray, hole: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Resizes a picture with a hole, see `cut`.

    Returns:
        uint8 [height, width, 3] and bool [height, width].
    """
    down = height < hole.shape[0]
    # Both filters are never negative where known and hole meet; Hamming is the sharper one that
    # needs two cells at least.
    kind = Image.Resampling.HAMMING if down else Image.Resampling.BILINEAR
    known = np.where(hole, np.uint8(0), np.uint8(255))
    image = Image.fromarray(np.dstack([rgb, known])).resize((width, height), kind)
    pixels = np.asarray(image)
    if not down:
        return np.ascontiguousarray(pixels[..., :3]), pixels[..., 3] < 255
    cells = cell_starts(hole.shape, height, width)
    return np.ascontiguousarray(pixels[..., :3]), any_in_cells(hole, *cells)


def cell_starts(shape: tuple[int, ...], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first row and column of each cell when a picture is scaled down to a size."""
    return np.arange(height) * shape[0] // height, np.arange(width) * shape[1] // width


def paste(target: np.ndarray, output: np.ndarray, window: Window, where: np.ndarray) -> None:
    """Writes the network's output into a picture.

    Args:
        target: uint8 [H, W, 3], written to.
        output: uint8 [S, S, 3]; resized to the window by Pillow's bicubic filter.
        window: where the output was cut out.
        where: bool, of the shape of `window.inside`: pixels that are written.
    """
    box = window.inside(*target.shape[:2])
    top, left = box.top - window.top, box.left - window.left
    bottom, right = box.bottom - window.top, box.right - window.left
    if window.side == len(output):
        part = output[top:bottom, left:right]
    else:
        # Of a long strip only what lies in the picture is enlarged, not the whole square.
        scale = len(output) / window.side
        part = np.asarray(
            Image.fromarray(output).resize(
                (right - left, bottom - top),
                Image.Resampling.BICUBIC,
                box=(left * scale, top * scale, right * scale, bottom * scale),
            )
        )
    target[box.around][where] = part[where]


def _start(middle: int, side: int, length: int) -> int:
    """Returns where a window begins: around the middle, inside, or around a shorter picture."""
    if side >= length:
        return (length - side) // 2
    return min(max(middle - side // 2, 0), length - side)


def _mirrored(start: int, side: int, length: int) -> slice | np.ndarray:
    if start >= 0 and start + side <= length:
        return slice(start, start + side)
    place = np.arange(start, start + side) % (2 * length)
    return np.minimum(place, 2 * length - 1 - place)
