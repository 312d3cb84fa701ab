"""TIFF files of many writers: read, filled and written back as their kind, with what they tell."""

import io
import pathlib
import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from gmsrm_jax.data.decoding import UnreadablePicture, decode_image
from gmsrm_jax.data.masks.files import read_mask
from gmsrm_jax.inference.picture_io import encode_picture, open_picture, save_picture
from gmsrm_jax.runtime.errors import UserError

SHAPE = (40, 52)
HOLE = np.zeros(SHAPE, bool)
HOLE[10:20, 12:30] = True
GEO = [
    (33550, 12, 3, (1.0, 1.0, 0.0), False),
    (33922, 12, 6, (0.0, 0.0, 0.0, 5.5, 6.5, 0.0), False),
    (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 2), False),
    (34737, 2, 0, "WGS 84|", False),
    (42113, 2, 0, "-9999", False),
]


def numbers(channels: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    shape = (*SHAPE, channels) if channels > 1 else SHAPE
    high = {1: 256, 2: 65536, 4: 65536}[np.dtype(dtype).itemsize]
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


RGB, DEEP = numbers(3), numbers(3, np.uint16)


def by_tifffile(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def by_pillow(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "TIFF", **options)
    return buffer.getvalue()


def by_opencv(array: np.ndarray) -> bytes:
    return cv2.imencode(".tif", array[..., ::-1] if array.ndim == 3 else array)[1].tobytes()


def odd_compression(data: bytes) -> bytes:
    """The file with a tag of compression that no one here knows."""
    none, other = (struct.pack("<HHII", 259, 3, 1, number) for number in (1, 34887))
    assert none in data
    return data.replace(none, other)


def planes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, 2, 0))


WRITERS = {
    "plain": (RGB, by_pillow(RGB)),
    "resolution": (RGB, by_pillow(RGB, dpi=(300, 200), description="A scan", software="Scanner")),
    "per cm": (RGB, by_tifffile(RGB, resolution=(118, 118), resolutionunit=3)),
    "date": (RGB, by_tifffile(RGB, datetime="2020:01:02 03:04:05", description="d")),
    "BigTIFF": (RGB, by_tifffile(RGB, bigtiff=True)),
    "ImageJ": (RGB[..., 0], by_tifffile(RGB[..., 0], imagej=True, metadata={"unit": "um"})),
    "OME": (RGB, by_tifffile(RGB, ome=True)),
    "GeoTIFF": (RGB, by_tifffile(RGB, extratags=GEO, metadata=None)),
    "big endian": (RGB, by_tifffile(RGB, byteorder=">")),
    "tiles": (RGB, by_tifffile(RGB, tile=(16, 16))),
    "planes": (RGB, by_tifffile(planes(RGB), planarconfig="separate", photometric="rgb")),
    "LZW": (RGB, by_pillow(RGB, compression="tiff_lzw")),
    "OpenCV": (RGB, by_opencv(RGB)),
    "CMYK": (numbers(4), by_tifffile(numbers(4), photometric="separated")),
    "alpha": (numbers(4), by_tifffile(numbers(4), extrasamples=["unassalpha"], photometric="rgb")),
    "1 bit": (RGB[..., 0] > 99, by_pillow(RGB[..., 0] > 99, compression="group4")),
    "float": (numbers(1, np.float32) / 65535, by_tifffile(numbers(1, np.float32) / 65535)),
    "16 bits of grey": (DEEP[..., 0], by_tifffile(DEEP[..., 0], byteorder=">")),
    "16 bits": (DEEP, by_tifffile(DEEP, resolution=(300, 300))),
    "16 bits, big endian": (DEEP, by_tifffile(DEEP, byteorder=">")),
    "16 bits, deflated": (DEEP, by_tifffile(DEEP, compression="zlib", predictor=True)),
    "16 bits, both": (DEEP, by_tifffile(DEEP, compression="zlib", byteorder=">")),
    "16 bits, OpenCV": (DEEP, by_opencv(DEEP)),
    "16 bits, alpha": (
        numbers(4, np.uint16),
        by_tifffile(numbers(4, np.uint16), extrasamples=["unassalpha"], photometric="rgb"),
    ),
}
TOLD = (270, 282, 283, 296, 305, 306, 33550, 33922, 34735, 34737, 42113)


def told(data: bytes) -> dict[int, object]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        return {tag.code: tag.value for tag in tags if tag.code in TOLD}


@pytest.mark.parametrize("writer", WRITERS)
def test_files_of_every_writer_come_back_as_they_were_but_for_the_hole(writer: str) -> None:
    array, data = WRITERS[writer]
    picture = open_picture(data)
    assert picture.format == "TIFF" and picture.warnings == ()
    filled = picture.fitted(HOLE).restore(np.full((*SHAPE, 3), 77, np.uint8), HOLE)
    saved = encode_picture(filled, "TIFF", picture.info)
    assert saved.lossless and saved.notes == ()
    again = tifffile.imread(io.BytesIO(saved.data))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again[~HOLE], array[~HOLE])
    assert (again[HOLE] != array[HOLE]).any()
    before, after = told(data), told(saved.data)
    assert after == before
    reread = open_picture(saved.data)
    np.testing.assert_array_equal(reread.rgb[~HOLE], picture.rgb[~HOLE])


@pytest.mark.parametrize("source", ["TIFF", "JPEG"])
def test_exif_gps_profile_and_other_letters_are_kept(source: str, tmp_path: pathlib.Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Artist] = "Maker", "für Müller".encode()
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.ExposureTime: 0.25, ExifTags.Base.DateTimeOriginal: "2020:01:02 03:04:05"}
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo)[2] = (1.0, 2.0, 3.5)
    buffer = io.BytesIO()
    options: dict = {"exif": exif.tobytes(), "dpi": (72, 72)}
    if source == "TIFF":
        exif[ExifTags.IFD.Exif] = exif[ExifTags.IFD.GPSInfo] = 0  # or Pillow writes them not
        options = {"exif": exif, "compression": "raw"}
    Image.fromarray(RGB).save(buffer, source, icc_profile=b"any", **options)
    picture = open_picture(buffer.getvalue())
    path = tmp_path / "x.tif"
    save_picture(picture.restore(picture.rgb, HOLE), path)
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        assert tags["Make"].value == "Maker" and tags["Artist"].value == "für Müller"
        assert tags["ExifTag"].value["ExposureTime"] == 0.25
        assert tags["ExifTag"].value["DateTimeOriginal"] == "2020:01:02 03:04:05"
        assert tags["GPSTag"].value["GPSLatitude"] == (1, 1, 2, 1, 7, 2)
        assert bytes(tags["InterColorProfile"].value) == b"any"
        assert ("XResolution" in tags) == (source == "JPEG")


def test_metadata_and_bands_that_are_left_out_are_said() -> None:
    extra = [(700, 1, 0, b"<x:xmpmeta/>", False), (33723, 7, 0, b"iptc", False)]
    picture = open_picture(by_tifffile(RGB, extratags=[*extra, (50999, 1, 0, b"x", False)]))
    assert picture.warnings == ("picture: left out of its metadata: XMP, IptcNaaInfo, tag 50999",)
    infrared = by_tifffile(numbers(4), photometric="rgb", extrasamples=["unspecified"])
    assert open_picture(infrared, name="x").warnings == (
        "x: only the first 3 of its bands are used",
    )


def test_the_orientation_is_that_of_the_tag_alone() -> None:
    xmp = b'<rdf:Description tiff:Orientation="3"/>'
    tags = [(700, 1, 0, xmp, False)]
    data = by_tifffile(RGB, extratags=[*tags, (274, 3, 1, 6, False)])
    picture = open_picture(data)
    np.testing.assert_array_equal(picture.rgb, np.rot90(RGB, -1))
    assert picture.stored_size == (SHAPE[1], SHAPE[0])
    data = by_tifffile(RGB, extratags=tags)
    np.testing.assert_array_equal(open_picture(data).rgb, RGB)
    np.testing.assert_array_equal(decode_image(data), RGB)


def test_white_can_be_zero() -> None:
    grey = DEEP[..., 0]
    picture = open_picture(by_tifffile(grey, photometric="miniswhite"))
    np.testing.assert_array_equal(picture.rgb[..., 0], np.rint((65535 - grey) / 257.0))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (by_tifffile(RGB.astype(np.float32)), "3 x 32 bits of floats, compression 1"),
        (by_tifffile(RGB[..., 0].astype(np.float64)), "1 x 64 bits of floats"),
        (by_tifffile(RGB[..., 0].astype(np.float16), bigtiff=True), "1 x 16 bits of floats"),
        (by_tifffile(RGB.astype(np.uint32), byteorder=">"), "3 x 32 bits of whole numbers"),
        (
            by_tifffile(planes(DEEP), planarconfig="separate", photometric="rgb"),
            "3 x 16 bits of whole numbers in planes",
        ),
        (by_tifffile(numbers(2, np.uint16), extrasamples=["unassalpha"]), "2 x 16 bits of whole"),
        (by_tifffile(RGB, bigtiff=True, byteorder=">"), "offsets of 64 bits in big-endian order"),
        (odd_compression(by_tifffile(RGB)), "compression 34887"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_kind_that_is_not_read_is_named(data: bytes, kind: str) -> None:
    with pytest.raises(UserError) as caught:
        open_picture(data, name="x.tif")
    message = str(caught.value)
    assert message.startswith("x.tif: a TIFF file of ") and kind in message and "\n" not in message
    assert message.endswith("which is not read; save it again as PNG or JPEG")
    with pytest.raises(UnreadablePicture, match=r"picture: a TIFF file of .*, which is not read"):
        decode_image(data)


def test_a_tag_of_another_type_than_the_format_has_is_not_quoted() -> None:
    data = by_tifffile(RGB)
    samples = data.index((277).to_bytes(2, "little") + (3).to_bytes(2, "little"))
    odd = data[: samples + 2] + (2).to_bytes(2, "little") + data[samples + 4 :]  # a text
    with pytest.raises(UserError) as caught:
        open_picture(odd, name="x.tif")
    assert str(caught.value).isprintable()


def test_an_empty_file_is_called_so(tmp_path: pathlib.Path) -> None:
    (tmp_path / "zero.png").touch()
    with pytest.raises(UserError, match=r"zero\.png: the file is empty"):
        open_picture(tmp_path / "zero.png")


def test_sixteen_bits_of_colour_keep_what_their_file_tells() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    info = {"exif": exif.tobytes(), "icc_profile": b"any", "dpi": (300, 300)}
    with Image.open(io.BytesIO(encode_picture(DEEP, "PNG", info).data)) as image:
        image.load()
        assert image.getexif()[ExifTags.Base.Make] == "Maker"
        assert image.info["icc_profile"] == b"any"
        assert image.info["dpi"] == pytest.approx((300, 300), rel=1e-3)
    data = encode_picture(DEEP, "TIFF", info).data
    picture = open_picture(data)
    assert picture.is_array and picture.info["icc_profile"] == b"any"


def test_exif_data_that_jpeg_cannot_hold_are_left_out_and_said() -> None:
    picture = open_picture(by_pillow(RGB, tiffinfo={270: "x" * 70_000}))
    saved = encode_picture(picture.restore(picture.rgb, HOLE), "JPEG")
    assert any("bytes of EXIF data" in note for note in saved.notes)


def test_training_and_masks_read_odd_tiffs_as_filling_does(tmp_path):
    grey = numbers(1, np.uint16)
    negative = by_tifffile(grey, photometric="miniswhite")
    np.testing.assert_allclose(decode_image(negative)[..., 0], (65535 - grey) / 257, atol=0.51)
    black_hole = np.where(HOLE[:, :40], 0, 65535).astype(np.uint16)
    (tmp_path / "mask.tif").write_bytes(by_tifffile(black_hole, photometric="miniswhite"))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif", 40)[..., 0], HOLE[:, :40])
    whole = by_tifffile(planes(DEEP), planarconfig="separate", photometric="rgb")
    with pytest.raises(
        UnreadablePicture, match=r"3 x 16 bits of whole numbers in planes, .*which is not read"
    ):
        decode_image(whole)
    packed = by_tifffile(
        planes(DEEP), planarconfig="separate", photometric="rgb", compression="zlib"
    )
    np.testing.assert_array_equal(decode_image(packed), DEEP >> 8)
    (tmp_path / "planes.tif").write_bytes(whole)
    with pytest.raises(
        UserError, match=r"3 x 16 bits of whole numbers in planes, .*which is not read"
    ):
        read_mask(tmp_path / "planes.tif", 32)
