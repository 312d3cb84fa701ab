"""Masks of every kind: white is the hole, and what is odd is said."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gmsrm_jax.assets import asset_path
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
    mask = open_mask(levels, picture(), FillOptions(mask_threshold=128))
    np.testing.assert_array_equal(mask.hole, levels >= 128)
    assert mask.warnings == ("mask: 56 grey levels; 128 and above counts as white",)
    with pytest.raises(UserError, match=r"as in a photograph.*mask_threshold=128"):
        open_mask(levels, picture())
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


COLOURS = ("red", "blue", "magenta", "lime", "maroon", "yellow", "#402000")


def drawn(background: str, colour: str, mode: str = "RGB") -> tuple[Image.Image, np.ndarray]:
    """A stroke with soft edges, large enough for a lossy format, and its inside."""
    soft = Image.new("L", (WIDTH * 8, HEIGHT * 8))
    ImageDraw.Draw(soft).line([(30, 20), (120, 90), (40, 90)], "white", 22)
    soft = soft.resize((WIDTH * 4, HEIGHT * 4), Image.Resampling.BOX)
    image = Image.new(mode, soft.size, background)
    image.paste(Image.new(mode, soft.size, colour), mask=soft)
    return image, np.asarray(soft) >= 128


def large() -> Picture:
    return open_picture(np.zeros((HEIGHT * 4, WIDTH * 4, 3), np.uint8))


@pytest.mark.parametrize("colour", COLOURS)
def test_one_colour_on_black_is_the_hole(colour: str) -> None:
    image, inside = drawn("black", colour)
    for source in (image, np.asarray(image), image.quantize(32)):
        mask = open_mask(source, large())
        assert (mask.hole != inside).mean() < 0.005 and "on black; it is taken" in mask.warnings[0]
    inverted = open_mask(image, large(), FillOptions(mask_invert=True))
    np.testing.assert_array_equal(inverted.hole, ~open_mask(image, large()).hole)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=90)
    assert (open_mask(jpeg.getvalue(), large()).hole != inside).mean() < 0.02


@pytest.mark.parametrize("colour", [(245, 245, 220), (128, 96, 102), (60, 40, 40)])
def test_a_pale_colour_is_the_hole_where_there_is_no_third(colour: tuple[int, ...]) -> None:
    levels = np.where(hole()[..., None], np.uint8(colour), np.uint8(0))
    np.testing.assert_array_equal(open_mask(Image.fromarray(levels), picture()).hole, hole())
    half = np.dstack([np.where(hole()[..., None], np.uint8((255, 192, 203)), 0), hole() * 128])
    opened = open_mask(Image.fromarray(half.astype(np.uint8)), picture())
    np.testing.assert_array_equal(opened.hole, hole())


@pytest.mark.parametrize("under", [(0, 0, 0, 0), (255, 255, 255, 0), "same"])
def test_a_brush_layer_on_transparent_is_the_hole(under: object) -> None:
    area = hole()
    for colour in [(255, 0, 0, 255), (0, 0, 255, 255), (255, 255, 255, 255), (90, 0, 160, 255)]:
        around = (*colour[:3], 0) if under == "same" else under
        layer = np.where(area[..., None], np.uint8(colour), np.uint8(around))
        np.testing.assert_array_equal(open_mask(Image.fromarray(layer), picture()).hole, area)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("label", [1, 7, 200, 255])
def test_labels_of_any_number_are_the_hole(dtype: type, label: int) -> None:
    area = hole()
    image = Image.fromarray((area * label).astype(dtype))
    np.testing.assert_array_equal(open_mask(image, picture()).hole, area)


def test_one_class_of_a_label_palette_is_the_hole() -> None:
    area = hole()
    image = Image.fromarray(area.astype(np.uint8)).convert("P")
    for colour in [(128, 0, 0), (0, 128, 0), (64, 0, 0), (0, 0, 1), (1, 1, 1)]:
        image = Image.fromarray(area.astype(np.uint8))
        image.putpalette([0, 0, 0, *colour])
        np.testing.assert_array_equal(open_mask(image, picture()).hole, area)


def test_what_can_mean_two_things_is_refused_with_the_cure() -> None:
    red, inside = drawn("white", "red")
    with pytest.raises(UserError, match=r"mask: #ff0000 on white.*mask_invert if"):
        open_mask(red, large())
    inverted = open_mask(red, large(), FillOptions(mask_invert=True))
    assert (inverted.hole != inside).mean() < 0.005
    labels = np.resize(np.arange(4, dtype=np.uint8), (HEIGHT, WIDTH))
    with pytest.raises(UserError, match=r"its values go from 0 to 3.*mask_threshold"):
        open_mask(labels, picture())
    np.testing.assert_array_equal(
        open_mask(labels, picture(), FillOptions(mask_threshold=3)).hole, labels == 3
    )
    with pytest.raises(UserError, match="its values go from 200 to 255"):
        open_mask(np.where(hole(), np.uint8(200), np.uint8(255)), picture())
    two = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    two[2:5, 2:9], two[8:12, 3:7] = (255, 0, 0), (0, 255, 0)
    with pytest.raises(UserError, match="its colours are #000000, #ff0000, #00ff00; save the hole"):
        open_mask(two, picture())


def photographs() -> list[Image.Image]:
    folder = asset_path("facades/test")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix == ".jpg"][::4]
    return [Image.open(path).convert("RGB").reduce(2) for path in paths]


@pytest.mark.parametrize("kind", ["colour", "grey", "dark", "small"])
def test_no_photograph_is_a_mask(kind: str) -> None:
    for photograph in photographs():
        given = {
            "colour": lambda image: image,
            "grey": lambda image: image.convert("L"),
            "dark": lambda image: image.point(lambda level: level * level // 300),
            "small": lambda image: image.resize((48, 48)),
        }[kind](photograph)
        with pytest.raises(UserError, match=r"^photo\.jpg: .*(photograph|and no mask|its values)"):
            open_mask(given, open_picture(given), name="photo.jpg")


def test_a_photograph_painted_over_or_erased_is_no_mask() -> None:
    given = photographs()[0]
    shown = open_picture(given)
    ImageDraw.Draw(given).ellipse((20, 20, 90, 90), "red")
    with pytest.raises(UserError, match="many colours and no mask"):
        open_mask(given, shown)
    given.putalpha(Image.fromarray(white(np.indices(given.size[::-1])[0] > 30)))
    with pytest.raises(UserError, match="transparent part of the picture, give no mask"):
        open_mask(given, shown)


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
