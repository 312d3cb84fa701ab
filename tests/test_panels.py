"""Pictures side by side, outlines of holes, and PNG bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.runtime.image_grid import (
    grid,
    labelled_sheet,
    mask_picture,
    outline,
    to_png,
    upscale,
)


def test_grid_places_pictures_row_by_row():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    sheet = grid(images, 3, gap=1)
    assert sheet.shape == (2 * 4 + 1, 3 * 6 + 2, 3)
    for index in range(5):
        top, left = index // 3 * 5, index % 3 * 7
        assert (sheet[top : top + 4, left : left + 6] == index).all()
    assert (sheet[4] == 255).all()
    assert (sheet[:, 6] == 255).all()
    assert (sheet[5:, 14:] == 255).all()
    assert grid(images, 99, gap=0).shape == (4, 30, 3)


def test_grid_refuses_other_arrays():
    with pytest.raises(ValueError, match="uint8"):
        grid(np.zeros((2, 4, 4, 3), np.float32), 2)
    with pytest.raises(ValueError, match="uint8"):
        grid(np.zeros((0, 4, 4, 3), np.uint8), 2)
    with pytest.raises(ValueError, match="columns"):
        grid(np.zeros((2, 4, 4, 3), np.uint8), 0)


def test_upscale_repeats_pixels():
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    large = upscale(image, 3)
    assert large.shape == (2, 9, 12, 3)
    for row, column in np.ndindex(9, 12):
        np.testing.assert_array_equal(large[:, row, column], image[:, row // 3, column // 3])


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 1), (5, 7)])
def test_png_keeps_every_pixel(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(to_png(image))) as picture:
        np.testing.assert_array_equal(np.asarray(picture).reshape(shape), image)


def test_png_refuses_other_arrays():
    with pytest.raises(ValueError, match="uint8"):
        to_png(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="uint8"):
        to_png(np.zeros((4, 4, 2), np.uint8))


def test_mask_picture_is_white_in_the_hole():
    picture = mask_picture(np.array([[[0], [1]]], np.uint8))
    np.testing.assert_array_equal(picture, [[[0, 0, 0], [255, 255, 255]]])
    assert picture.dtype == np.uint8


# --- outlines -----------------------------------------------------------------------------------


def distances(hole):
    """Chessboard distance of every pixel to the hole, by looking at every pair of pixels."""
    size = hole.shape[0]
    result = np.full((size, size), 10**6)
    for row, column in np.ndindex(size, size):
        for y, x in np.argwhere(hole):
            distance = max(abs(row - y), abs(column - x))
            result[row, column] = min(result[row, column], distance)
    return result


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_outline_is_white_then_black_around_the_hole(width, share):
    random = np.random.default_rng(width)
    image = random.integers(1, 255, (20, 20, 3), np.uint8)
    mask = (random.uniform(size=(20, 20, 1)) < share).astype(np.uint8)
    before = image.copy()
    drawn = outline(image, mask, width)
    away = distances(mask[..., 0])
    white, black = (away > 0) & (away <= width), (away > width) & (away <= 2 * width)
    assert white.any()
    np.testing.assert_array_equal((drawn == 255).all(-1), white)
    np.testing.assert_array_equal((drawn == 0).all(-1), black)
    np.testing.assert_array_equal(drawn[~(white | black)], image[~(white | black)])
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("brightness", [0, 255, 127])
def test_outline_is_seen_on_any_brightness(brightness):
    image = np.full((16, 16, 3), brightness, np.uint8)
    mask = np.zeros((16, 16, 1), np.float32)
    mask[4:9, 0:7] = 1.0  # reaches the border, where no line can be
    drawn = outline(image, mask)
    changed = np.abs(drawn.astype(int) - brightness).max(-1) > 100
    assert changed[3, 0:8].all() or changed[2, 0:9].all()
    assert changed[3:10, 7].all() or changed[2:11, 8].all()
    assert not changed[4:9, 0:7].any()


@pytest.mark.parametrize("value", [0, 1])
def test_no_hole_or_nothing_else_has_no_outline(value):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(outline(image, np.full((8, 8, 1), value, np.uint8)), image)


def test_labelled_sheet_keeps_the_pictures_and_writes_below():
    random = np.random.default_rng(0)
    rows = [[random.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(3)] for _ in range(2)]
    sheet = labelled_sheet(["(a) input", "(b) a very long name of a method", "(c) é"], rows, 4)
    assert sheet.shape[1] == 3 * 64 + 2 * 4
    for row in range(2):
        for column in range(3):
            part = sheet[row * 68 : row * 68 + 64, column * 68 : column * 68 + 64]
            np.testing.assert_array_equal(part, rows[row][column])
    below = sheet[2 * 64 + 4 :]
    inked = [(below[:, c * 68 : c * 68 + 64] < 128).any() for c in range(3)]
    assert inked == [True, True, True]
    # The long label takes several lines; the short ones only the first.
    lines = [np.flatnonzero((below[:, c * 68 : c * 68 + 64] < 128).any((1, 2))) for c in range(3)]
    assert lines[1].max() > lines[0].max() + 10
    assert below.shape[0] > lines[1].max()
