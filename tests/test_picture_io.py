"""Pictures of every kind: what the network sees, and what comes back."""

import io
import pathlib
import struct
import zlib

import numpy as np
import pytest
from good_pictures import chunk
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from gmsrm_jax.inference.mask_io import open_mask
from gmsrm_jax.inference.picture_io import (
    encode_picture,
    format_of,
    open_picture,
    save_picture,
)
from gmsrm_jax.runtime.errors import UserError

SHAPE = (17, 23)
MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I", "F", "I;16")
# Read as another mode.
RARE = dict.fromkeys(("RGBX", "YCbCr", "LAB", "HSV"), "RGB") | {"La": "LA", "RGBa": "RGBA"}
RARE |= dict.fromkeys(("I;16L", "I;16B", "I;16N"), "I;16")
EXIF_ORIENTATION = 0x0112


def random(seed: int, *shape: int, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape)


def random_hole(seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE) < 0.4


def example(mode: str) -> Image.Image:
    """A picture of random numbers in a mode, premultiplied ones no brighter than their alpha."""
    height, width = SHAPE
    channels = len(Image.new(mode, (1, 1)).getbands())
    if mode == "1":
        return Image.fromarray(random(0, *SHAPE) > 127)
    if mode == "I":
        data = random(0, *SHAPE, high=65536).astype(np.int32)
    elif mode == "F":
        data = random(0, *SHAPE).astype(np.float32) / 255
    elif mode.startswith("I;16"):
        order = ">u2" if mode == "I;16B" else "<u2"
        data = random(0, *SHAPE, high=65536).astype(order)
    else:
        data = random(0, height, width, channels).astype(np.uint8)
        if mode in ("La", "RGBa"):
            data[..., :-1] = np.minimum(data[..., :-1], data[..., -1:])
    return Image.frombytes(mode, (width, height), data.tobytes())


def matrix_profile(
    gamma: float, colorants: list[tuple[float, float, float]], name: str = "test"
) -> bytes:
    """An ICC v2 display profile: one gamma and the XYZ (D50) of red, green and blue."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    description = name.encode() + b"\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(description)) + description + bytes(78)
    tags = [(b"desc", text), (b"cprt", b"text\0\0\0\0none\0"), (b"wtpt", None)]
    tags += [(name, None) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    points = iter([(0.9642, 1.0, 0.8249), *colorants])
    bodies = [
        body if body is not None else b"XYZ \0\0\0\0" + fixed(*next(points)) for _, body in tags
    ]
    offset, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for (tag, _), body in zip(tags, bodies, strict=True):
        table += tag + struct.pack(">II", offset + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s", 0, b"test", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    head += bytes(128 - len(head))
    whole = head + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


# Adobe RGB (1998) under D50.
ADOBE = [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)]
SRGB_FROM_D50 = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)


def adobe_to_srgb(numbers: np.ndarray) -> np.ndarray:
    xyz = (numbers / 255.0) ** (563 / 256) @ np.array(ADOBE)
    linear = np.clip(xyz @ SRGB_FROM_D50.T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curved


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_comes_back_bit_for_bit(mode: str) -> None:
    image, hole = example(mode), random_hole()
    picture = open_picture(image)
    assert picture.rgb.shape == (*SHAPE, 3) and picture.rgb.dtype == np.uint8
    unchanged = picture.restore(picture.rgb, np.zeros(SHAPE, bool))
    assert isinstance(unchanged, Image.Image)
    assert (unchanged.mode, unchanged.size) == (image.mode, image.size)
    assert unchanged.tobytes() == image.tobytes()

    fill = np.full_like(picture.rgb, 200)
    filled = picture.restore(fill, hole)
    assert isinstance(filled, Image.Image)
    before, after = np.asarray(image), np.asarray(filled)
    np.testing.assert_array_equal(before[~hole], after[~hole])
    seen = open_picture(filled).rgb[hole].astype(int)
    np.testing.assert_allclose(seen, 255 if mode == "1" else 200, atol=3)


@pytest.mark.parametrize("mode", RARE)
def test_a_rare_mode_is_read_as_another(mode: str) -> None:
    image, hole = example(mode), random_hole()
    picture = open_picture(image)
    grey = mode.startswith("I;16")
    wanted = image if grey else image.convert(RARE[mode])
    said = () if grey else (f"picture: mode {mode} is read as {RARE[mode]}",)
    assert picture.warnings == said
    filled = picture.restore(np.full_like(picture.rgb, 200), hole)
    assert isinstance(filled, Image.Image) and filled.mode == RARE[mode]
    np.testing.assert_array_equal(np.asarray(filled)[~hole], np.asarray(wanted)[~hole])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_colours_go_in_and_out_as_pillow_converts_them(mode: str) -> None:
    image = example(mode)
    if mode == "RGBA":
        image.putalpha(255)
    picture = open_picture(image)
    np.testing.assert_array_equal(picture.rgb, np.asarray(image.convert("RGB")))
    colours = Image.fromarray(random(1, *SHAPE, 3).astype(np.uint8))
    filled = picture.restore(np.asarray(colours), np.ones(SHAPE, bool))
    wanted = np.asarray(colours.convert(mode))
    np.testing.assert_array_equal(np.asarray(filled), wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tail", [(), (1,), (2,), (3,), (4,)])
def test_arrays_keep_shape_dtype_and_known_numbers(dtype: type, tail: tuple[int, ...]) -> None:
    high = np.iinfo(dtype).max + 1
    array, hole = random(2, *SHAPE, *tail, high=high).astype(dtype), random_hole()
    given = array.copy()
    picture = open_picture(array)
    fill = np.full((*SHAPE, 3), 77, np.uint8)
    filled = picture.restore(fill, hole)
    assert isinstance(filled, np.ndarray)
    assert (filled.shape, filled.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(filled[~hole], given[~hole])
    np.testing.assert_array_equal(array, given)
    white = high - 1
    colour = filled[hole][..., :-1] if tail in ((2,), (4,)) else filled[hole]
    assert (colour == 77 * white // 255).all()
    if tail in ((2,), (4,)):
        assert (filled[hole][..., -1] == white).all()


def test_sixteen_bits_are_seen_rounded_to_eight() -> None:
    array = random(3, *SHAPE, 3, high=65536).astype(np.uint16)
    wanted = np.rint(array / 257.0)
    np.testing.assert_array_equal(open_picture(array).rgb, wanted)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 5), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5), np.int64),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(UserError, match="give"):
        open_picture(array)


@pytest.mark.parametrize(("top", "white"), [(1.0, 1.0), (200.0, 255.0), (60000.0, 65535.0)])
def test_float_pictures_by_their_range(top: float, white: float) -> None:
    data = np.linspace(0, top, 20, dtype=np.float32).reshape(4, 5)
    picture = open_picture(Image.fromarray(data))
    np.testing.assert_array_equal(picture.rgb[..., 0], np.rint(data * (255 / white)))
    filled = picture.restore(np.full((4, 5, 3), 51, np.uint8), np.ones((4, 5), bool))
    np.testing.assert_allclose(np.asarray(filled), white / 5, rtol=1e-6)


@pytest.mark.parametrize("values", [(-1.0, 2.0), (0.0, 1e6), (0.0, float("nan"))])
def test_floats_of_no_known_range_are_refused(values: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"photo: its numbers go from .*scale them"):
        open_picture(Image.fromarray(np.array([values], np.float32)), name="photo")


def ramp(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Grey from low to high [40, 50], and a hole in its middle."""
    hole = np.zeros((40, 50), bool)
    hole[12:30, 10:40] = True
    return np.linspace(low, high, hole.size).reshape(hole.shape), hole


@pytest.mark.parametrize("odd", [None, "one pixel", "the hole"])
@pytest.mark.parametrize(
    ("low", "high", "white"),
    [(0.4, 0.7, 1), (0.1, 1, 1), (1.5, 2.6, 2.6), (20, 250, 255), (900, 3300, 4095)],
)
def test_floats_are_seen_and_filled_in_the_range_of_nearly_all_known_pixels(
    low: float, high: float, white: float, odd: str | None
) -> None:
    data, hole = ramp(low, high)
    wanted = np.rint(data / white * 255)
    if odd == "one pixel":
        data[20, 0] = high * 1.5 + 1
        wanted[20, 0] = 255
    elif odd:
        data[hole] = 60000
    picture = open_picture(Image.fromarray(data.astype(np.float32))).fitted(hole)
    np.testing.assert_allclose(picture.rgb[..., 0][~hole], wanted[~hole], atol=1)
    for level in (0, 140, 255):
        filled = np.asarray(picture.restore(np.full((40, 50, 3), level, np.uint8), hole))[hole]
        within = np.clip(level / 255 * white, low, np.float32(data[~hole].max()))
        np.testing.assert_allclose(filled, within, rtol=2e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize(("low", "high"), [(0.0, 0.03), (0.46, 0.48), (0.9, 0.9)])
def test_a_narrow_range_is_seen_stretched_and_filled_in_fine_steps(
    low: float, high: float, dtype: type
) -> None:
    """Infrared, heights: the network would see three grey levels of 0.46 to 0.48."""
    data, hole = ramp(low, high)
    white = 65535 if dtype == np.uint16 else 1
    numbers = (data * white).astype(dtype)
    numbers[0, 0] = white  # which must not count
    picture = open_picture(Image.fromarray(numbers)).fitted(hole)
    seen = picture.rgb[..., 0][~hole][1:].astype(float)
    if low == high:
        assert len(np.unique(seen)) == 1
        return
    known = numbers[~hole][1:].astype(float)
    wanted = 255 * (known - known.min()) / np.ptp(known)
    np.testing.assert_allclose(seen, wanted, atol=1.5)
    levels = np.tile(np.arange(40, 240, dtype=np.uint8), 10).reshape(40, 50)
    filled = np.asarray(picture.restore(np.dstack([levels] * 3), hole))[hole].astype(float)
    within = known.min() + levels[hole] / 255.0 * np.ptp(known)
    np.testing.assert_allclose(filled, within, atol=np.ptp(known) / 100)
    if dtype == np.float32:  # what is written as 8 bits is not stretched
        saved = open_picture(encode_picture(Image.fromarray(numbers), "PNG").data)
        np.testing.assert_allclose(saved.rgb[..., 0], np.rint(numbers * 255.0), atol=1)


@pytest.mark.parametrize("kind", ["grey", "array", "alpha", "float"])
@pytest.mark.parametrize(
    ("white", "step"), [(255, 1), (1023, 1), (4095, 1), (4095, 16), (255, 257), (255, 256)]
)
def test_fewer_bits_in_sixteen_keep_their_range_and_steps(kind: str, white: int, step: int) -> None:
    data, hole = ramp(white * 0.1, white * 0.9)
    numbers = np.rint(data).astype(np.uint16) * np.uint16(step)
    numbers[0, 0], numbers[hole] = 65535 // step * step, 65535
    shown = {
        "grey": lambda: Image.fromarray(numbers),
        "array": lambda: np.dstack([numbers] * 3),
        "alpha": lambda: np.dstack([numbers, np.full_like(numbers, 65535)]),
        "float": lambda: Image.fromarray(numbers.astype(np.float32)),
    }[kind]()
    picture = open_picture(shown).fitted(hole)
    seen = picture.rgb[..., 0][~hole][1:]
    np.testing.assert_allclose(seen, (np.rint(data) / white * 255)[~hole][1:], atol=1.5)
    fill = np.zeros((40, 50, 3), np.uint8) + random(1, 40, 50, 1).astype(np.uint8)
    native = np.asarray(picture.restore(fill, hole)).reshape(40, 50, -1)[..., 0]
    filled = native[hole].astype(int)
    assert (filled % step == 0).all() and filled.min() >= numbers[~hole].min()
    assert filled.max() <= (white + 1) * step and len(np.unique(filled)) > 100
    np.testing.assert_array_equal(native[~hole], numbers[~hole])


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_becomes_colours(transparent: bool) -> None:
    image = Image.fromarray(random(4, *SHAPE, 3).astype(np.uint8)).quantize(16)
    if transparent:
        image.info["transparency"] = 3
    wanted = image.convert("RGBA" if transparent else "RGB")
    hole = random_hole()
    picture = open_picture(encoded(image, "PNG"))
    filled = picture.restore(np.full((*SHAPE, 3), 9, np.uint8), hole)
    assert isinstance(filled, Image.Image) and filled.mode == wanted.mode
    assert "transparency" not in filled.info
    np.testing.assert_array_equal(np.asarray(filled)[~hole], np.asarray(wanted)[~hole])
    assert (np.asarray(filled)[hole][:, :3] == 9).all()


def test_alpha_is_kept_outside_and_opaque_inside_the_hole() -> None:
    image, hole = example("RGBA"), random_hole()
    picture = open_picture(image)
    array = np.asarray(image).astype(float)
    alpha = array[..., 3:] / 255
    np.testing.assert_allclose(picture.rgb, array[..., :3] * alpha + 255 * (1 - alpha), atol=1)
    filled = np.asarray(picture.restore(picture.rgb, hole))
    np.testing.assert_array_equal(filled[~hole], np.asarray(image)[~hole])
    assert (filled[hole][:, 3] == 255).all()


@pytest.mark.parametrize(
    ("mode", "key", "kept"), [("RGB", (9, 9, 9), "RGBA"), ("L", 9, "LA"), ("I;16", 9 * 257, None)]
)
def test_a_transparent_colour_becomes_alpha(mode: str, key: object, kept: str | None) -> None:
    image = example(mode)
    image.putpixel((1, 2), key)
    data = encoded(image, "PNG", transparency=key)
    picture, hole = open_picture(data), random_hole()
    hole[2, 1] = False
    assert picture.alpha is not None and picture.alpha[2, 1] == 0
    assert (picture.rgb[2, 1] == 255).all()
    filled = picture.restore(np.full((*SHAPE, 3), 9, np.uint8), hole)
    assert getattr(filled, "mode", None) == kept
    visible = open_picture(encode_picture(filled).data).alpha
    assert (visible[hole] == 255).all() and visible[2, 1] == 0
    before = np.asarray(image).reshape(*SHAPE, -1)
    after = np.asarray(filled)
    np.testing.assert_array_equal(after[~hole][:, :-1], before[~hole])
    assert (after[hole] == [9 * 257, 65535] if kept is None else after[hole][:, 0] == 9).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "memory"])
def test_pictures_are_worked_on_as_they_are_displayed(kind: str, orientation: int) -> None:
    stored = Image.fromarray(random(5, *SHAPE, 3).astype(np.uint8))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    exif[0x010F] = "a maker"
    exif.get_ifd(0x8769)[0x829A] = 0.25
    source: Image.Image | bytes = stored
    if kind == "memory":
        stored.getexif().update({EXIF_ORIENTATION: orientation, 0x010F: "a maker"})
    else:
        options = {"WEBP": {"lossless": True}}.get(kind, {})
        source = encoded(stored, kind, exif=exif.tobytes(), **options)
        with Image.open(io.BytesIO(source)) as decoded:
            stored = decoded.copy() if kind != "TIFF" else stored
            stored.info["exif"] = exif.tobytes()
    displayed = ImageOps.exif_transpose(stored)
    if kind == "TIFF":
        stored.getexif()[EXIF_ORIENTATION] = orientation
        displayed = ImageOps.exif_transpose(stored)

    picture = open_picture(source)
    assert (picture.width, picture.height) == displayed.size
    np.testing.assert_array_equal(picture.rgb, np.asarray(displayed))
    result = picture.restore(picture.rgb, np.zeros(picture.rgb.shape[:2], bool))
    assert isinstance(result, Image.Image)
    with Image.open(io.BytesIO(encode_picture(result).data)) as again:
        assert again.getexif().get(EXIF_ORIENTATION, 1) == 1
        assert again.getexif()[0x010F] == "a maker"
        if kind != "memory":
            assert again.getexif().get_ifd(0x8769)[0x829A] == 0.25
        upright = ImageOps.exif_transpose(again)
        np.testing.assert_array_equal(np.asarray(upright), np.asarray(displayed))


def test_all_other_exif_tags_are_kept() -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION], exif[0x010E], exif[0x011A] = 6, "words", 72.0
    nested = exif.get_ifd(ExifTags.IFD.Exif)
    nested[ExifTags.Base.ExposureTime], nested[ExifTags.Base.MakerNote] = 0.25, b"\0maker\xff"
    nested[ExifTags.IFD.Interop] = {1: "R98"}
    exif.get_ifd(ExifTags.IFD.GPSInfo)[2] = (1.0, 2.0, 3.5)
    picture = open_picture(encoded(example("RGB"), "JPEG", exif=exif.tobytes()))
    result = picture.restore(picture.rgb, np.zeros(picture.rgb.shape[:2], bool))
    assert isinstance(result, Image.Image)
    kept = Image.Exif()
    kept.load(result.info["exif"])
    assert (kept[0x010E], kept[0x011A]) == ("words", 72.0) and EXIF_ORIENTATION not in kept
    found = kept.get_ifd(ExifTags.IFD.Exif)
    assert found[ExifTags.Base.ExposureTime] == 0.25
    assert found[ExifTags.Base.MakerNote] == b"\0maker\xff"
    assert kept.get_ifd(ExifTags.IFD.Interop) == {1: "R98"}
    assert kept.get_ifd(ExifTags.IFD.GPSInfo) == {2: (1.0, 2.0, 3.5)}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("places", "lengths"), [(0x0201, 0x0202), (0x0111, 0x0117)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_thumbnail_of_what_was_removed_is_not_kept(
    order: str, places: int, lengths: int, orientation: int
) -> None:
    def directory(link: int, *entries: tuple[int, int]) -> bytes:
        rows = [struct.pack(order + "HHLL", tag, 4, 1, value) for tag, value in entries]
        return struct.pack(order + "H", len(rows)) + b"".join(rows) + struct.pack(order + "L", link)

    turn = struct.pack(order + "HHLHH", EXIF_ORIENTATION, 3, 1, orientation, 0)
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "L", 8)
    first = struct.pack(order + "H", 1) + turn + struct.pack(order + "L", 26)
    raw = header + first + directory(0, (places, 56), (lengths, 6)) + b"secret"
    assert len(raw) == 62
    data = encoded(example("RGB"), "JPEG", exif=b"Exif\0\0" + raw)
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.getexif().get_ifd(ExifTags.IFD.IFD1) and b"secret" in data
    picture = open_picture(data)
    result = picture.restore(picture.rgb, np.zeros(picture.rgb.shape[:2], bool))
    assert isinstance(result, Image.Image) and picture.warnings == ()
    for format in ("PNG", "JPEG"):
        written = encode_picture(result, format).data
        assert b"secret" not in written
        with Image.open(io.BytesIO(written)) as again:
            assert again.getexif().get(EXIF_ORIENTATION, 1) == 1
            assert not again.getexif().get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("block", [b"MM\0*" + bytes(3), b"MM\0*\0\0\0\x08\0\x05", b"no EXIF"])
def test_damaged_exif_is_left_out_and_said(block: bytes) -> None:
    image = example("RGB")
    picture = open_picture(encoded(image, "PNG", exif=b"Exif\0\0" + block))
    np.testing.assert_array_equal(picture.rgb, np.asarray(image))
    assert "its EXIF data are damaged and left out" in picture.warnings[0]
    result = picture.restore(picture.rgb, np.zeros(picture.rgb.shape[:2], bool))
    assert isinstance(result, Image.Image) and "exif" not in result.info


def test_a_colour_profile_is_kept_and_used() -> None:
    profile = matrix_profile(563 / 256, ADOBE)
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 51)] * 3), -1).reshape(6, 36, 3)
    image = Image.fromarray(grid.astype(np.uint8))
    picture = open_picture(encoded(image, "PNG", icc_profile=profile))
    assert picture.warnings == ()
    np.testing.assert_allclose(picture.rgb, adobe_to_srgb(grid), atol=2.5)
    assert np.abs(picture.rgb.astype(int) - grid).max() > 20

    hole = np.zeros((6, 36), bool)
    hole[:, 9:30] = True
    muted = np.random.default_rng(6).integers(60, 190, (6, 36, 3)).astype(np.uint8)
    result = picture.restore(muted, hole)
    assert isinstance(result, Image.Image)
    np.testing.assert_array_equal(np.asarray(result)[~hole], grid[~hole])
    np.testing.assert_allclose(adobe_to_srgb(np.asarray(result)[hole]), muted[hole], atol=3)
    with Image.open(io.BytesIO(encode_picture(result).data)) as again:
        assert again.info["icc_profile"] == profile
        np.testing.assert_array_equal(np.asarray(again), np.asarray(result))


def test_srgb_numbers_are_used_as_they_are() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = example("RGB")
    picture = open_picture(encoded(image, "JPEG", icc_profile=profile, quality=95))
    with Image.open(io.BytesIO(encoded(image, "JPEG", quality=95))) as plain:
        np.testing.assert_array_equal(picture.rgb, np.asarray(plain))
    assert picture.restore(picture.rgb, random_hole()).info["icc_profile"] == profile


def test_a_linear_profile_that_is_named_after_srgb_is_used() -> None:
    rows = [tuple(row) for row in np.linalg.inv(SRGB_FROM_D50).T.tolist()]
    profile = matrix_profile(1.0, rows, "sRGB-elle-V2-g10.icc")
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    picture = open_picture(encoded(Image.fromarray(ramp), "PNG", icc_profile=profile))
    linear = ramp / 255.0
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(picture.rgb, 255 * curved, atol=2)


def test_a_colour_profile_on_sixteen_bits_of_grey_and_alpha_is_said() -> None:
    profile = matrix_profile(2.2, ADOBE)
    pixels = np.full((8, 9, 2), 65535, np.uint16)
    extra = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
    file = encode_picture(pixels).data
    picture = open_picture(file[:33] + extra + file[33:])
    assert (picture.rgb == 255).all() and "not applied" in picture.warnings[0]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_xmp_is_left_out_and_its_orientation_is_not_looked_at(format: str) -> None:
    packet = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description
        tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", packet.decode())
    options = {"pnginfo": text} if format == "PNG" else {"xmp": packet}
    data = encoded(example("RGB"), format, **options)
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.getexif()[EXIF_ORIENTATION] == 6  # as Pillow has it
    picture = open_picture(data)
    assert picture.rgb.shape == (*SHAPE, 3)
    result = picture.restore(picture.rgb, np.zeros(picture.rgb.shape[:2], bool))
    assert isinstance(result, Image.Image) and not result.info.keys() & {"xmp", "exif"}
    assert picture.warnings == ("picture: left out of its metadata: XMP",)


def test_texts_that_are_left_out_are_said_of_pictures_and_not_of_masks() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "Created with GIMP")
    text.add_itxt("a\nb", "any")
    text.add_text("Raw profile type exif", "\nexif\n       6\n457869660000")
    said = {
        "JPEG": ({"comment": b"my words"}, "comment"),
        "PNG": ({"pnginfo": text}, "Comment, a\\nb"),
    }
    for format, (options, words) in said.items():
        picture = open_picture(encoded(example("L"), format, **options))
        assert picture.warnings == (f"picture: left out of its metadata: {words}",)
    with Image.open(io.BytesIO(encoded(example("L"), "JPEG"))) as image:
        image.info["photoshop"] = {0x0404: b"iptc"}
        assert open_picture(image).warnings == ("picture: left out of its metadata: IPTC",)
    hole = Image.fromarray(random_hole())
    assert open_mask(encoded(hole, "PNG", pnginfo=text), picture).warnings == ()


@pytest.mark.parametrize("profile", [b"no profile", matrix_profile(2.2, ADOBE)])
def test_a_profile_of_no_use_is_kept_and_said(profile: bytes) -> None:
    image = example("CMYK")
    image.info["icc_profile"] = profile
    picture = open_picture(image, name="scan")
    (warning,) = picture.warnings
    assert warning.startswith("scan: its colour profile is kept but not applied")
    np.testing.assert_array_equal(picture.rgb, np.asarray(example("CMYK").convert("RGB")))
    assert picture.restore(picture.rgb, random_hole()).info["icc_profile"] == profile


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_files_cut_short_are_refused(format: str, tmp_path: pathlib.Path) -> None:
    data = encoded(Image.fromarray(random(7, 60, 80, 3).astype(np.uint8)), format)
    open_picture(data)
    for length in (0, 3, 30, len(data) // 2, len(data) * 9 // 10):
        path = tmp_path / "cut.bin"
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"cut\.bin: .*save it again") as caught:
            open_picture(path)
        assert "\n" not in str(caught.value)


def test_what_is_no_picture_is_refused(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "фото 测试 ä.jpg"
    page.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"ä\.jpg: not one of JPEG, PNG"):
        open_picture(page)
    with pytest.raises(UserError, match=r"gone\.png: not there"):
        open_picture(tmp_path / "gone.png")
    with pytest.raises(UserError, match="a folder"):
        open_picture(tmp_path)
    with pytest.raises(UserError, match="not one of"):
        open_picture(encoded(example("L"), "GIF"))


def test_size_is_checked_before_decoding() -> None:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)), (b"IDAT", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    with pytest.raises(UserError, match="too many pixels"):
        open_picture(bomb)
    with pytest.raises(UserError, match="23 x 17 px are more than the limit of 390 px"):
        open_picture(encoded(example("RGB"), "PNG"), max_pixels=390)
    with pytest.raises(UserError, match="390 px"):
        open_picture(np.zeros((17, 23), np.uint8), max_pixels=390)


def test_only_the_first_of_several_pictures_is_used_and_said() -> None:
    pages = [example("L"), Image.new("L", (23, 17))]
    picture = open_picture(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    np.testing.assert_array_equal(picture.rgb[..., 0], np.asarray(pages[0]))
    assert picture.warnings == ("picture: only the first of its 2 pictures is used",)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", MODES)
def test_saving_says_truly_whether_known_pixels_are_kept(mode: str, format: str) -> None:
    image = example(mode)
    saved = encode_picture(image, format)
    again = Image.open(io.BytesIO(saved.data))
    if saved.lossless:
        wanted, found = np.asarray(image), np.asarray(again)
        np.testing.assert_array_equal(wanted.astype(np.float64), found.astype(np.float64))
    else:
        assert any("known pixels" in note for note in saved.notes)
        assert again.mode != mode
    easy = {"PNG": ("1", "L", "LA", "RGB", "RGBA", "I", "I;16"), "TIFF": ("CMYK", "F")}
    if mode in easy.get(format, ("RGB",)):
        assert saved.lossless


def test_cmyk_as_png_is_said_to_be_converted() -> None:
    saved = encode_picture(example("CMYK"), "PNG")
    assert saved.notes == ("PNG cannot hold CMYK: known pixels are converted to RGB",)
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(saved.data))), np.asarray(example("CMYK").convert("RGB"))
    )


def test_jpeg_is_said_to_be_lossy() -> None:
    saved = encode_picture(example("RGB"), "JPEG")
    assert not saved.lossless and "re-encoded" in saved.notes[0]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_of_several_channels_go_to_png_and_back(channels: int) -> None:
    array = random(8, *SHAPE, channels, high=65536).astype(np.uint16)
    saved = encode_picture(array, "PNG")
    assert saved.lossless
    image = Image.open(io.BytesIO(saved.data))  # of the file Pillow reads the upper bytes
    upper = np.asarray(image.convert({2: "LA", 3: "RGB", 4: "RGBA"}[channels]))
    np.testing.assert_array_equal(upper, array >> 8)
    picture = open_picture(saved.data)
    np.testing.assert_array_equal(picture.restore(picture.rgb, np.zeros(SHAPE, bool)), array)
    with pytest.raises(UserError, match="use PNG"):
        encode_picture(array, "WEBP")


def test_files_are_written_whole_and_by_their_suffix(tmp_path: pathlib.Path) -> None:
    save_picture(example("RGB"), tmp_path / "new" / "a.WebP")
    with Image.open(tmp_path / "new" / "a.WebP") as image:
        assert image.format == "WEBP"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.WebP"]
    assert format_of("x/y.JPEG") == "JPEG"
    with pytest.raises(UserError, match=r"the suffix '\.gif'"):
        save_picture(example("RGB"), tmp_path / "a.gif")
    with pytest.raises(UserError, match="TARGA"):
        encode_picture(example("RGB"), "TARGA")


def test_text_bombs_in_png_are_refused() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * 20_000_000, zip=True)
    with pytest.raises(UserError, match="damaged"):
        open_picture(encoded(example("RGB"), "PNG", pnginfo=info))


def _filtered_png(rows: np.ndarray, kinds: np.ndarray, pixel: int, kind: int) -> bytes:
    """A 16-bit PNG whose rows use these filters, written pixel by pixel."""
    height, length = rows.shape
    lines = []
    for y in range(height):
        line = bytearray([kinds[y]])
        for i in range(length):
            a = int(rows[y, i - pixel]) if i >= pixel else 0
            b = int(rows[y - 1, i]) if y else 0
            c = int(rows[y - 1, i - pixel]) if y and i >= pixel else 0
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            guess = (0, a, b, (a + b) // 2, paeth)[kinds[y]]
            line.append((int(rows[y, i]) - guess) % 256)
        lines.append(bytes(line))
    header = struct.pack(">IIBBBBB", length // pixel, height, 16, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bit_files_by_any_filter_and_turn(orientation: int) -> None:
    array = random(10, *SHAPE, 3, high=65536).astype(np.uint16)
    rows = array.astype(">u2").view(np.uint8).reshape(SHAPE[0], -1)
    data = _filtered_png(rows, random(11, SHAPE[0], high=5), 6, 2)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    body = b"eXIf" + exif.tobytes()[6:]
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    picture = open_picture(data[:33] + chunk + data[33:])
    result = picture.restore(picture.rgb, np.zeros(picture.rgb.shape[:2], bool))
    assert isinstance(result, np.ndarray) and result.dtype == np.uint16
    for channel in range(3):
        plane = Image.fromarray(array[..., channel].astype(np.int32))
        plane.getexif()[EXIF_ORIENTATION] = orientation
        np.testing.assert_array_equal(
            result[..., channel], np.asarray(ImageOps.exif_transpose(plane))
        )


def test_one_transparent_colour_of_sixteen_bits_becomes_alpha() -> None:
    array = random(12, *SHAPE, 3, high=65536).astype(np.uint16)
    array[3, 4] = (1, 2, 3)
    data = encode_picture(array).data
    body = b"tRNS" + struct.pack(">HHH", 1, 2, 3)
    chunk = struct.pack(">I", 6) + body + struct.pack(">I", zlib.crc32(body))
    picture = open_picture(data[:33] + chunk + data[33:])
    result = picture.restore(picture.rgb, np.zeros(SHAPE, bool))
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result[..., :3], array)
    wanted = np.full(SHAPE, 65535)
    wanted[3, 4] = 0
    np.testing.assert_array_equal(result[..., 3], wanted)


def test_cmyk_as_png_leaves_the_colour_profile_behind() -> None:
    image = example("CMYK")
    image.info["icc_profile"] = b"any"
    with Image.open(io.BytesIO(encode_picture(image).data)) as again:
        assert "icc_profile" not in again.info


def test_what_cannot_hold_alpha_shows_the_picture_over_white() -> None:
    image = example("RGBA")
    saved = encode_picture(image, "BMP")
    assert not saved.lossless
    array = np.asarray(image).astype(float)
    alpha = array[..., 3:] / 255
    shown = np.asarray(Image.open(io.BytesIO(saved.data)))
    np.testing.assert_allclose(shown, array[..., :3] * alpha + 255 * (1 - alpha), atol=1)


@pytest.mark.parametrize(
    ("mode", "content"), [("L", b"\1\2"), ("RGB", b"\0\1\0\2\1\3"), ("P", bytes(257))]
)
def test_a_transparent_colour_that_cannot_be_is_left_out_and_said(
    mode: str, content: bytes
) -> None:
    data = _with_png_chunk(example("RGB").convert(mode), chunk(b"tRNS", content))
    picture = open_picture(data)
    assert picture.warnings == ("picture: its transparent colour is damaged and left out",)
    assert picture.alpha is None
    restored = picture.restore(picture.rgb, random_hole())
    np.testing.assert_array_equal(np.asarray(restored.convert("RGB")), picture.rgb)


def test_sixteen_bits_are_read_interlaced_too() -> None:
    pixel = np.full((1, 6), 200, np.uint8)
    data = _filtered_png(pixel, np.zeros(1, np.uint8), 6, 2)
    header = data[16:28] + b"\1"  # interlaced, which is the same file for one pixel
    data = data[:8] + chunk(b"IHDR", header) + chunk(b"tRNS", bytes([200] * 6)) + data[33:]
    picture = open_picture(data)
    assert picture.warnings == () and picture.alpha is not None and picture.alpha[0, 0] == 0
    restored = picture.restore(picture.rgb, np.zeros((1, 1), bool))
    assert np.asarray(restored).tolist() == [[[200 * 257] * 3 + [0]]]


@pytest.mark.parametrize(
    ("mode", "key", "value"),
    [
        ("RGB", "icc_profile", "text"),
        ("RGB", "dpi", 72),
        ("L", "dpi", (float("nan"), 72)),
        ("RGB", "dpi", (10**9, 1)),
        ("RGB", "transparency", 5),
        ("L", "transparency", b"noise"),
        ("1", "transparency", b"noise"),
        ("CMYK", "transparency", (1, 2, 3)),
    ],
)
def test_entries_that_cannot_be_are_left_out_and_said(mode: str, key: str, value: object) -> None:
    image = example(mode)
    image.info[key] = value
    picture = open_picture(image)
    (warning,) = picture.warnings
    assert warning.startswith("picture: its ") and warning.endswith("is damaged and left out")
    restored = picture.restore(picture.rgb, random_hole())
    for format in ("PNG", "JPEG", "TIFF"):
        assert encode_picture(restored, format).data


def test_a_resolution_of_zero_is_none() -> None:
    image = example("RGB")
    image.info["dpi"] = (0, 0)
    picture = open_picture(image)
    assert picture.warnings == ()
    assert "dpi" not in picture.restore(picture.rgb, random_hole()).info


def _with_png_chunk(image: Image.Image, extra: bytes) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = buffer.getvalue()
    place = data.index(b"IDAT") - 4
    return data[:place] + extra + data[place:]
