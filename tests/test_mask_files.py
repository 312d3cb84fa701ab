"""Ratios and bins of holes, and mask pictures and banks as files."""

import math

import numpy as np
import pytest
from PIL import ExifTags, Image

from gmsrm_jax.data.masks import bins, files
from gmsrm_jax.inference.mask_io import open_mask
from gmsrm_jax.inference.picture_io import open_picture
from gmsrm_jax.runtime.errors import UserError


def random_masks(count, size, seed=0):
    return (np.random.default_rng(seed).random((count, size, size, 1)) < 0.3).astype(np.uint8)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.0, None),
        (1e-6, 0),
        (0.1, 0),
        (0.1001, 1),
        (0.25, 2),
        (0.3, 2),
        (0.5, 4),
        (0.6, 5),
        (0.61, None),
        (1.0, None),
    ],
)
def test_bins_exclude_their_lower_and_include_their_upper_bound(ratio, expected):
    assert bins.ratio_bin(ratio) == expected


def test_bin_names():
    names = [bins.bin_name(i) for i in range(len(bins.RATIO_BINS))]
    assert names == ["0-10%", "10-20%", "20-30%", "30-40%", "40-50%", "50-60%"]


@pytest.mark.parametrize(
    ("size", "ratio", "first", "side"),
    [(256, 0.25, 64, 128), (256, 0.5, 37, 181), (64, 0.5, 9, 45), (32, 1.0, 0, 32)],
)
def test_center_mask_is_the_square_of_the_rule(size, ratio, first, side):
    mask = bins.center_mask(size, ratio)
    assert mask.shape == (size, size, 1)
    assert mask.dtype == np.float32
    for row in range(size):
        for column in range(size):
            inside = first <= row < first + side and first <= column < first + side
            assert mask[row, column, 0] == float(inside)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.5])
def test_center_mask_refuses_other_ratios(ratio):
    with pytest.raises(UserError, match=str(ratio)):
        bins.center_mask(64, ratio)


def test_hole_ratio_counts_pixels():
    mask = np.zeros((8, 4, 1), np.float32)
    mask[:3, 1] = 1.0
    assert bins.hole_ratio(mask) == 3 / 32


def test_read_mask_takes_grey_128_and_above_as_hole(tmp_path):
    grey = np.tile(np.array([0, 127, 128, 255], np.uint8), (4, 1))
    Image.fromarray(grey).save(tmp_path / "mask.png")
    mask = files.read_mask(tmp_path / "mask.png", 4)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask[..., 0], np.tile([0, 0, 1, 1], (4, 1)))
    inverted = files.read_mask(tmp_path / "mask.png", 4, invert=True)
    np.testing.assert_array_equal(inverted, 1 - mask)


def test_read_mask_takes_the_upper_half_of_16_bits(tmp_path):
    grey = np.tile(np.array([0, 200, 0x7FFF, 0x8000, 0xFFFF], np.uint16), (5, 1))
    Image.fromarray(grey).save(tmp_path / "mask.png")
    mask = files.read_mask(tmp_path / "mask.png", 5)
    np.testing.assert_array_equal(mask[..., 0], np.tile([0, 0, 0, 1, 1], (5, 1)))


def test_read_mask_sees_the_hole_that_people_fill(tmp_path):
    """Evaluations and `gmsrm inpaint` take a file for the same mask, whatever its kind."""
    random = np.random.default_rng(3)

    def drawn() -> Image.Image:
        """Nearly black and nearly white."""
        white = random.random((6, 6)) < 0.5
        return Image.fromarray(np.uint8(235 * white + random.integers(0, 20, (6, 6))))

    grey, alpha = drawn(), drawn()
    colours = Image.merge("RGB", (grey, grey, grey))
    palette = grey.quantize(8)
    flat = grey.point(lambda level: 255 * (level > 128))
    red, black = Image.new("L", (6, 6), 255), Image.new("L", (6, 6))
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    kinds = {
        "grey.png": (grey, {}),
        "colours.png": (colours, {}),
        "alpha.png": (Image.merge("RGBA", (*colours.split(), alpha)), {}),
        "grey_alpha.png": (Image.merge("LA", (grey, alpha)), {}),
        "shape_in_alpha.png": (Image.merge("LA", (Image.new("L", (6, 6), 255), alpha)), {}),
        "palette.png": (palette, {}),
        "clear_colour.png": (palette, {"transparency": 7}),
        "clear_grey.png": (grey, {"transparency": grey.getpixel((0, 0))}),
        "turned.png": (grey, {"exif": turned}),
        "red.png": (Image.merge("RGB", (flat, black, black)), {}),
        "red_on_clear.png": (Image.merge("RGBA", (red, black, black, flat)), {}),
        "label.png": (flat.point(lambda level: level // 255), {}),
        "label16.png": (Image.fromarray((np.asarray(flat) // 255).astype(np.uint16)), {}),
        "turned.jpg": (grey.convert("CMYK"), {"exif": turned}),
    }
    photo = open_picture(np.zeros((6, 6, 3), np.uint8), name="photo")
    for name, (picture, options) in kinds.items():
        picture.save(tmp_path / name, **options)
        mask = files.read_mask(tmp_path / name, 6)
        np.testing.assert_array_equal(mask[..., 0], open_mask(tmp_path / name, photo).hole, name)


def test_read_mask_resizes_to_nearest_pixels(tmp_path):
    small = random_masks(1, 16)[0]
    large = small.repeat(2, 0).repeat(2, 1)
    Image.fromarray(255 * large[..., 0]).convert("RGB").save(tmp_path / "mask.png")
    np.testing.assert_array_equal(files.read_mask(tmp_path / "mask.png", 16), small)


def test_read_mask_names_a_file_it_cannot_read(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"<html>")
    for name in ("broken.png", "absent.png"):
        with pytest.raises(UserError, match=name):
            files.read_mask(tmp_path / name, 32)


def test_packed_bits_are_the_pixels_in_reading_order():
    masks = random_masks(3, 5)
    packed = files.pack_masks(masks)
    assert packed.shape == (3, math.ceil(25 / 8))
    for n in range(3):
        for pixel in range(25):
            bit = packed[n, pixel // 8] >> (7 - pixel % 8) & 1
            assert bit == masks[n, pixel // 5, pixel % 5, 0]
    np.testing.assert_array_equal(files.unpack_masks(packed, 5), masks)


def test_bank_returns_what_was_written_and_leaves_no_other_file(tmp_path):
    masks = random_masks(6, 32)
    files.write_mask_bank(tmp_path / "bank.npz", masks)
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"]
    read = files.unpack_masks(*files.read_packed_masks(tmp_path / "bank.npz"))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, masks)
    with np.load(tmp_path / "bank.npz", allow_pickle=False) as file:
        assert file["bits"].nbytes == masks.size // 8


def test_bank_errors_name_the_file_and_the_cure(tmp_path):
    def check(name):
        with pytest.raises(UserError, match=rf"{name}.*gmsrm masks draw") as caught:
            files.read_packed_masks(tmp_path / name)
        assert "\n" not in str(caught.value)

    check("absent.npz")
    (tmp_path / "text.npz").write_text("not a bank")
    check("text.npz")
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    check("other.npz")
    bits = np.zeros((2, 128), np.uint8)
    np.savez(tmp_path / "count.npz", bits=bits, count=3, size=32)
    check("count.npz")
    np.savez(tmp_path / "pickle.npz", bits=np.array([{}], object), count=1, size=32)
    check("pickle.npz")
    files.write_mask_bank(tmp_path / "flipped.npz", random_masks(6, 32))
    content = bytearray((tmp_path / "flipped.npz").read_bytes())
    content[len(content) // 3] ^= 0xFF  # in the compressed bits
    (tmp_path / "flipped.npz").write_bytes(content)
    check("flipped.npz")


def test_what_is_no_clear_mask_is_refused_with_the_cure_of_those_who_read_it(tmp_path):
    red = np.full((6, 6, 3), 255, np.uint8)
    red[:3] = (255, 0, 0)
    labels = np.resize(np.arange(4, dtype=np.uint8), (6, 6))
    for name, pixels in {"red.png": red, "labels.png": labels}.items():
        Image.fromarray(pixels).save(tmp_path / name)
    with pytest.raises(UserError, match=r"red\.png: #ff0000 on white.*pass --invert if #ff0000"):
        files.read_mask(tmp_path / "red.png", 6)
    hole = files.read_mask(tmp_path / "red.png", 6, invert=True)[..., 0]
    np.testing.assert_array_equal(hole, np.repeat([1, 0], 3)[:, None].repeat(6, 1))
    with pytest.raises(UserError, match=r"labels\.png: its values go from 0 to 3.*on black$"):
        files.read_mask(tmp_path / "labels.png", 6)
