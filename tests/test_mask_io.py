"""Masks of every kind: white is the hole, and what is odd is said."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.inference.mask_io import open_mask
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.picture_io import Picture, open_picture
from gmsrm_jax.runtime.errors import UserError

HEIGHT, WIDTH = 14, 22


def picture() -> Picture:
    return open_picture(np.zeros((HEIGHT, WIDTH, 3), np.uint8), name="photo")


def hole(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.3


def white(area: np.ndarray) -> np.ndarray:
    return area.astype(np.uint8) * 255


def as_kind(kind: str, area: np.ndarray, tmp_path: pathlib.Path) -> object:
    grey = Image.fromarray(white(area))
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    path = tmp_path / "mask.png"
    path.write_bytes(buffer.getvalue())
    palette = Image.fromarray(area.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    return {
        "path": path,
        "text path": str(path),
        "bytes": buffer.getvalue(),
        "L": grey,
        "1": Image.fromarray(area),
        "RGB": grey.convert("RGB"),
        "RGBA": grey.convert("RGBA"),
        "P": palette,
        "I;16": Image.fromarray(area.astype(np.uint16) * 65535),
        "F": Image.fromarray(area.astype(np.float32)),
        "bool": area,
        "uint8": white(area),
        "uint8 channel": white(area)[..., None],
        "uint8 colours": np.dstack([white(area)] * 3),
        "zeros and ones": area.astype(np.int64),
        "uint16": area.astype(np.uint16) * 65535,
        "float": area.astype(np.float32)[..., None],
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("path", "text path", "bytes", "L", "1", "RGB", "RGBA", "P", "I;16", "F", "bool", "uint8"),
        *("uint8 channel", "uint8 colours", "zeros and ones", "uint16", "float"),
    ],
)
def test_every_kind_of_mask_means_the_same(kind: str, tmp_path: pathlib.Path) -> None:
    area = hole()
    mask = open_mask(as_kind(kind, area, tmp_path), picture())
    np.testing.assert_array_equal(mask.hole, area)
    assert mask.ratio == area.mean() and mask.warnings == ()
    inverted = open_mask(as_kind(kind, area, tmp_path), picture(), FillOptions(mask_invert=True))
    np.testing.assert_array_equal(inverted.hole, ~area)


def test_the_threshold_is_included_and_grey_is_said() -> None:
    levels = np.resize(np.arange(100, 156, dtype=np.uint8), (HEIGHT, WIDTH))
    mask = open_mask(levels, picture())
    np.testing.assert_array_equal(mask.hole, levels >= 128)
    assert mask.warnings == ("mask: 56 grey levels; 128 and above counts as white",)
    np.testing.assert_array_equal(
        open_mask(levels, picture(), FillOptions(mask_threshold=140)).hole, levels >= 140
    )


def test_dilation_grows_the_hole() -> None:
    area = np.zeros((HEIGHT, WIDTH), bool)
    area[5, 9] = True
    wanted = np.zeros_like(area)
    wanted[3:8, 7:12] = True
    np.testing.assert_array_equal(
        open_mask(area, picture(), FillOptions(mask_dilate=2)).hole, wanted
    )


def test_empty_full_and_large_holes_are_said() -> None:
    area = np.zeros((HEIGHT, WIDTH), bool)
    assert "no hole" in open_mask(area, picture()).warnings[0]
    assert "all of it is hole" in open_mask(~area, picture()).warnings[0]
    area[1:] = True
    assert "93% of it is hole" in open_mask(area, picture()).warnings[0]
    faint = Image.fromarray(area.astype(np.uint8))
    warnings = open_mask(faint, picture()).warnings
    assert "its brightest value is 1, below 128" in warnings[0] and "no hole" in warnings[1]


def test_another_size_is_refused_unless_resizing_is_asked_for() -> None:
    area = hole()
    double = area.repeat(2, 0).repeat(2, 1)
    with pytest.raises(UserError, match="mask: 44 x 28 px, but the picture is displayed at 22 x 1"):
        open_mask(double, picture())
    np.testing.assert_array_equal(
        open_mask(double, picture(), FillOptions(mask_resize="nearest")).hole, area
    )
    opened = open_mask(area, picture())
    assert open_mask(opened, picture()) is opened
    with pytest.raises(UserError, match="22 x 14 px, but"):
        open_mask(opened, open_picture(np.zeros((5, 5), np.uint8)))


def test_a_mask_for_the_stored_orientation_is_told_from_others() -> None:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "JPEG", exif=exif)
    turned = open_picture(buffer.getvalue(), name="phone.jpg")
    assert (turned.width, turned.height) == (HEIGHT, WIDTH)
    with pytest.raises(UserError, match=r"phone\.jpg is stored that way and turned by its EXIF"):
        open_mask(hole(), turned)
    np.testing.assert_array_equal(open_mask(hole().T, turned).hole, hole().T)


def test_a_shape_in_alpha_alone_is_used_under_white_and_refused_under_black() -> None:
    area = hole()
    layers = np.dstack([np.full((HEIGHT, WIDTH, 3), 255, np.uint8), white(area)])
    mask = open_mask(layers, picture())
    np.testing.assert_array_equal(mask.hole, area)
    assert "its alpha is the mask" in mask.warnings[0]
    with pytest.raises(UserError, match="all of it is black, its shape lies in its alpha"):
        open_mask(Image.fromarray(layers * np.uint8([0, 0, 0, 1])), picture())


def test_transparent_parts_of_a_mask_are_no_hole() -> None:
    area = hole()
    colours = white(hole(1))
    layers = np.dstack([colours, colours, colours, white(area)])
    mask = open_mask(Image.fromarray(layers), picture())
    np.testing.assert_array_equal(mask.hole, area & hole(1))
    levels = np.where(hole(1), np.where(area, np.uint8(255), np.uint8(200)), np.uint8(0))
    for shown, key in [
        (Image.fromarray(levels), 200),
        (Image.fromarray(np.dstack([levels] * 3)), (200, 200, 200)),
    ]:
        buffer = io.BytesIO()
        shown.save(buffer, "PNG", transparency=key)
        mask = open_mask(buffer.getvalue(), picture())
        np.testing.assert_array_equal(mask.hole, area & hole(1))


def test_the_hole_can_be_the_transparent_part_of_the_picture() -> None:
    area = hole()
    layers = np.dstack([np.zeros((HEIGHT, WIDTH, 3), np.uint8), white(~area)])
    np.testing.assert_array_equal(open_mask(None, open_picture(layers)).hole, area)
    inverted = open_mask(None, open_picture(layers), FillOptions(mask_invert=True))
    np.testing.assert_array_equal(inverted.hole, ~area)
    with pytest.raises(UserError, match="photo: no mask is given"):
        open_mask(None, picture())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"an array \[5\]"),
        (np.zeros((5, 5, 7)), r"an array \[5, 5, 7\]"),
        (np.full((HEIGHT, WIDTH), 255.0), "give 0 to 1"),
        (np.full((HEIGHT, WIDTH), np.nan), "give 0 to 1"),
        (np.full((HEIGHT, WIDTH), -1), "give 0 to 1"),
        (np.full((HEIGHT, WIDTH), 300), "give 0 to 255"),
        (np.zeros((HEIGHT, WIDTH), complex), "complex128"),
    ],
)
def test_arrays_that_are_no_mask_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_mask(array, picture())


def test_a_file_that_is_no_mask_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(b"words")
    with pytest.raises(UserError, match=r"m\.png: not one of"):
        open_mask(path, picture())


def test_one_function_opens_the_hole_of_a_mask_or_of_the_alpha() -> None:
    area = hole()
    image = np.dstack([np.zeros((*area.shape, 3), np.uint8), np.where(area, 90, 255)])
    transparent = open_picture(image.astype(np.uint8), name="photo")
    for source in (None, area):
        grown = open_mask(source, transparent, FillOptions(mask_dilate=1))
        assert np.count_nonzero(grown.hole) > np.count_nonzero(area)
        np.testing.assert_array_equal(open_mask(source, transparent).hole, area)
        np.testing.assert_array_equal(
            open_mask(source, transparent, FillOptions(mask_invert=True)).hole, ~area
        )
    assert not open_mask(None, transparent, FillOptions(mask_threshold=80)).hole.any()
    halved = open_mask(
        area[::2, ::2], transparent, FillOptions(mask_resize="nearest"), name="drawn"
    )
    assert halved.hole.shape == area.shape
    with pytest.raises(UserError, match=r"^drawn: "):
        open_mask(area[::2], transparent, name="drawn")
    with pytest.raises(UserError, match="limit of 9 px"):
        open_mask(Image.fromarray(area), transparent, FillOptions(max_pixels=9))
    with pytest.raises(UserError, match="no mask is given"):
        open_mask(None, picture())
