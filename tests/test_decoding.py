import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from gmsrm_jax.data import decoding
from gmsrm_jax.data.decoding import UnreadablePicture, decode_image, read_header

NOISE = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)


def saved(picture, suffix, **options):
    buffer = io.BytesIO()
    picture.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    return buffer.getvalue()


def png(depth, colour, rows, height, width):
    """A PNG written by hand, for what Pillow cannot write."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["jpg", "jpg CMYK", "png", "png RGBA", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright(orientation, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    suffix, _, mode = kind.partition(" ")
    options = {"lossless": True} if suffix == "webp" else {}
    picture = Image.fromarray(NOISE).convert(mode or "RGB")
    encoded = saved(picture, suffix, exif=exif, **options)
    with Image.open(io.BytesIO(encoded)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert expected.shape[:2] == ((40, 52) if orientation < 5 else (52, 40))
    np.testing.assert_array_equal(decode_image(encoded), expected)
    header = read_header(io.BytesIO(encoded))
    assert header.codec == (decoding.JPEG if kind == "jpg" else decoding.PILLOW)
    if kind == "jpg":
        assert header[1:4] == (orientation, 40, 52)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_metadata_that_are_wrong_do_not_spoil_a_picture(suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    # A text (0x010F) that says it is a rational number: ImageOps.exif_transpose fails on it.
    wrong_type = struct.pack("<HHHLLHHLL", 2, 0x010F, 5, 1, 38, 0x0112, 3, 1, 6)
    wrong_type = b"Exif\0\0II*\0\x08\0\0\0" + wrong_type + struct.pack("<LLL", 0, 72, 1)
    cut_short = b"Exif\0\0II*\0\x08"
    for exif, turns in ((wrong_type, 3), (b"Exif\0\0this is no EXIF", 0), (cut_short, 0)):
        encoded = saved(Image.fromarray(NOISE), suffix, exif=exif, **options)
        with Image.open(io.BytesIO(encoded)) as picture:
            expected = np.rot90(np.asarray(picture), turns)
        np.testing.assert_array_equal(decode_image(encoded), expected)
        if suffix == "jpg":
            assert read_header(io.BytesIO(encoded)).orientation == (6 if turns else 1)


def test_what_tensorflow_decodes_like_pillow_is_told_from_the_rest():
    rgb = Image.fromarray(NOISE)
    expected = {
        decoding.JPEG: [
            saved(rgb, "jpg"),
            saved(rgb.convert("L"), "jpg"),
            saved(rgb, "jpg", progressive=True),
        ],
        decoding.PILLOW: [
            saved(rgb, "png"),
            saved(rgb.convert("CMYK"), "jpg"),
            saved(rgb.convert("P"), "png"),
            saved(rgb.convert("P"), "png", transparency=3),
            saved(rgb, "png", transparency=(1, 2, 3)),
            saved(rgb.convert("RGBA"), "png"),
            saved(rgb.convert("LA"), "png"),
            saved(rgb.convert("1"), "png"),
            saved(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "png"),
            png(16, 2, [bytes(40 * 6)] * 40, 40, 40),
            png(4, 0, [bytes(20)] * 40, 40, 40),
            saved(rgb, "bmp"),
            saved(rgb, "webp"),
            saved(rgb, "tif"),
        ],
    }
    for codec, files in expected.items():
        for encoded in files:
            assert read_header(io.BytesIO(encoded)).codec == codec


def test_a_phone_picture_with_a_second_one_behind_it_is_a_jpeg():
    second = Image.fromarray(NOISE[::-1])
    encoded = io.BytesIO()
    Image.fromarray(NOISE).save(encoded, "MPO", save_all=True, append_images=[second])
    assert read_header(io.BytesIO(encoded.getvalue())).codec == decoding.JPEG
    np.testing.assert_array_equal(
        decode_image(encoded.getvalue()), decode_image(saved(Image.fromarray(NOISE), "jpg"))
    )


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = (np.arange(1600).reshape(40, 40) * 40).astype(np.uint16)
    grey = decode_image(saved(Image.fromarray(ramp), "png"))
    rows = [np.repeat(row.astype(">u2")[:, None], 3, 1).tobytes() for row in ramp]
    colour = decode_image(png(16, 2, rows, 40, 40))
    tiff = decode_image(saved(Image.fromarray(ramp), "tif"))
    for image in (grey, colour, tiff):
        assert image.shape == (40, 40, 3)
        np.testing.assert_allclose(image[..., 1], ramp / 257.0, atol=1.0)
    for image in (grey, tiff):  # the same numbers that filling works on
        np.testing.assert_array_equal(image[..., 0], np.floor(ramp / 257.0 + 0.5))


def test_transparent_parts_come_out_white():
    alpha = np.zeros((40, 52, 1), np.uint8)
    alpha[:, 20:] = 255
    alpha[:, 40:] = 100
    encoded = saved(Image.fromarray(np.concatenate([NOISE, alpha], 2)), "png")
    share = alpha / 255.0
    np.testing.assert_allclose(decode_image(encoded), NOISE * share + 255.0 * (1 - share), atol=1.0)
    palette = Image.new("P", (40, 40), 3)
    palette.putpalette([0, 0, 0, 10, 10, 10, 20, 20, 20, 30, 30, 30])
    assert (decode_image(saved(palette, "png", transparency=3)) == 255).all()
    assert (decode_image(saved(palette, "png")) == 30).all()


def test_cmyk_and_palette_come_out_in_colour():
    red = Image.new("RGB", (40, 40), (255, 0, 0))
    for encoded in (saved(red.convert("CMYK"), "jpg"), saved(red.convert("P"), "png")):
        np.testing.assert_allclose(decode_image(encoded)[20, 20], (255, 0, 0), atol=4)


def test_what_cannot_be_used_says_why():
    jpg = saved(Image.fromarray(NOISE).resize((400, 300)), "jpg")
    whole_png = saved(Image.fromarray(NOISE), "png")
    bomb = png(8, 2, [], 60_000, 60_000)
    bad_header = {
        b"": "empty",
        b"<html><body>404</body></html>": "not one of JPEG",
        jpg[:12]: "not one of JPEG|damaged",
        whole_png[:30]: "not one of JPEG|damaged",
        bomb: "max_pixels|far too many pixels",
        saved(Image.new("RGB", (31, 50)), "png"): "31 x 50",
        saved(Image.new("RGB", (64, 64)), "gif"): "not one of JPEG",
    }
    for encoded, reason in bad_header.items():
        with pytest.raises(UnreadablePicture, match=reason):
            read_header(io.BytesIO(encoded))
        with pytest.raises(UnreadablePicture):
            decode_image(encoded)
    read_header(io.BytesIO(jpg[: len(jpg) // 2]))  # a header tells nothing of the end
    for encoded in (jpg[: len(jpg) // 2], jpg[:-40], whole_png[: len(whole_png) // 2]):
        with pytest.raises(UnreadablePicture, match="damaged"):
            decode_image(encoded)
    with pytest.raises(UnreadablePicture, match="32 bits"):
        decode_image(saved(Image.new("F", (40, 40)), "tif"))
    with pytest.raises(
        UnreadablePicture, match=r"52 x 40 px are more than data\.max_pixels = 2000"
    ):
        read_header(io.BytesIO(whole_png), max_pixels=2000)
    with pytest.raises(UnreadablePicture, match="No such file"):
        read_header("absent.png")


@pytest.mark.parametrize(("height", "width"), [(90, 61), (61, 90), (33, 33)])
def test_test_rule_is_shorter_side_then_centre_crop(height, width):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    scale = 40 / min(height, width)
    scaled = (round(width * scale), round(height * scale))
    whole = np.asarray(Image.fromarray(noise).resize(scaled, Image.Resampling.BICUBIC))
    top, left = (scaled[1] - 32) // 2, (scaled[0] - 32) // 2
    result = decoding.resize_for_test(noise, 32, 1.25, "shorter_side")
    np.testing.assert_array_equal(result, whole[top : top + 32, left : left + 32])
    direct = decoding.resize_for_test(noise, 32, 1.25, "direct")
    expected = Image.fromarray(noise).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(direct, expected)
