"""Crops from encoded files, against a resampling in float64 NumPy."""

import functools
import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from gmsrm_jax.assets import asset_path
from gmsrm_jax.data.crops import View, decode_crop
from gmsrm_jax.data.decoding import JPEG, PILLOW, decode_image, read_header
from gmsrm_jax.data.tensorflow_cpu import tf

SIZE = 32
MAX_PIXELS = 2 * 10**6
VIEWS = [
    (40.0, (0.0, 0.0), False),
    (51.3, (0.31, 0.77), True),
    (60.0, (1.0, 1.0), False),
    (33.0, (0.9, 0.1), True),
]


@functools.cache
def graph():
    scalar = functools.partial(tf.TensorSpec, [])

    @tf.function(
        input_signature=[
            scalar(tf.string),
            tf.TensorSpec([4], tf.int32),
            View(scalar(tf.float32), tf.TensorSpec([2], tf.float32), scalar(tf.bool)),
        ]
    )
    def crop(encoded, header, view):
        return decode_crop(encoded, header, view, SIZE, MAX_PIXELS)

    return crop


def tensors(encoded, view):
    header = read_header(io.BytesIO(encoded), MAX_PIXELS)
    return tf.constant(header[:4], tf.int32), View(
        tf.constant(view[0], tf.float32), tf.constant(view[1], tf.float32), tf.constant(view[2])
    )


def crop(encoded, view):
    return graph()(tf.constant(encoded), *tensors(encoded, view)).numpy()


def expected(picture, view):
    """The crop of an upright picture [H, W, 3] before rounding, float64 [S, S, 3]."""
    shorter, corner, mirror = view
    result = picture.astype(np.float64)
    for axis in (0, 1):
        length = picture.shape[axis]
        scale = shorter / min(picture.shape[:2])
        offset = corner[axis] * (scale * length - SIZE)
        centres = (np.arange(SIZE) + 0.5 + offset) / scale
        distance = np.abs(centres[:, None] - np.arange(length) - 0.5) * min(1.0, scale)
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1.0
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4.0 * distance + 2.0
        weights = np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
        weights /= weights.sum(1, keepdims=True)
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    result = np.clip(result, 0.0, 255.0)
    return result[:, ::-1] if mirror else result


def photograph(width, height):
    """Real detail at any size: bundled photographs side by side."""
    folder = asset_path("facades/train")
    sheet = Image.new("RGB", (width, height))
    tiles = [(x, y) for y in range(0, height, 120) for x in range(0, width, 160)]
    for place, path in zip(tiles, sorted(folder.iterdir()), strict=False):
        with Image.open(path) as picture:
            sheet.paste(picture.convert("RGB").crop((0, 0, 160, 120)), place)
    return sheet


def encode(picture, suffix, **options):
    buffer = io.BytesIO()
    picture.save(buffer, suffix, **options)
    return buffer.getvalue()


def assert_close(result, exact):
    assert result.shape == (SIZE, SIZE, 3)
    assert result.dtype == np.uint8
    difference = np.abs(result - exact)
    assert difference.max() < 0.51  # float32 can round a half the other way, and nothing more


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(113, 90), (50, 140), (36, 33)], ids=["wide", "tall", "small"])
def test_crops_of_jpegs_in_every_orientation(size, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    encoded = encode(photograph(*size), "JPEG", quality=90, exif=exif)
    with Image.open(io.BytesIO(encoded)) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
    for view in VIEWS:
        assert_close(crop(encoded, view), expected(upright, view))


@pytest.mark.parametrize("suffix", ["PNG", "BMP", "TIFF"])
def test_crops_of_other_formats(suffix):
    picture = photograph(113, 90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = {"exif": exif} if suffix == "TIFF" else {}
    encoded = encode(picture, suffix, **turned)
    assert read_header(io.BytesIO(encoded), MAX_PIXELS).codec == PILLOW
    upright = np.asarray(picture.transpose(Image.Transpose.ROTATE_270) if turned else picture)
    for view in VIEWS:
        assert_close(crop(encoded, view), expected(upright, view))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_part_of_a_jpeg_is_decoded_like_the_whole(subsampling, progressive):
    noise = np.random.default_rng(0).integers(0, 256, (150, 201, 3), np.uint8)
    picture = Image.fromarray(noise).resize((201, 150), Image.Resampling.BICUBIC)
    encoded = encode(picture, "JPEG", subsampling=subsampling, progressive=progressive)
    whole = decode_image(encoded, MAX_PIXELS)
    for step in range(12):
        view = (130.0, (step / 11.0, (step * 5 % 12) / 11.0), False)
        assert_close(crop(encoded, view), expected(whole, view))


@pytest.mark.parametrize("shorter", [40.0, 60.0, 130.0])
def test_large_jpegs_are_decoded_smaller_and_look_the_same(shorter):
    encoded = encode(photograph(1290, 963), "JPEG", quality=95)
    whole = decode_image(encoded, MAX_PIXELS)
    for corner in ((0.2, 0.9), (0.45, 0.55), (1.0, 1.0)):
        view = (shorter, corner, True)
        error = np.mean((crop(encoded, view) - expected(whole, view)) ** 2)
        # Of the whole picture only rounding would be left, above 58 dB.
        assert 44.0 < 10.0 * np.log10(255.0**2 / error) < 57.0


def damaged(kind):
    picture = photograph(160, 120)
    rng = np.random.default_rng(0)
    whole = encode(picture, kind.partition(" ")[0])
    middle, tail = len(whole) // 2, len(whole) - len(whole) // 2
    return {
        "JPEG cut": whole[:middle],
        "JPEG without its last byte": whole[:-1],
        "JPEG zeros": whole[:middle] + bytes(tail),
        "JPEG noise": whole[:middle] + rng.integers(0, 256, tail - 2, np.uint8).tobytes(),
        "PNG cut": whole[:middle],
        "PNG noise": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        "BMP cut": whole[:middle],
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "JPEG cut",
        "JPEG without its last byte",
        "JPEG zeros",
        "JPEG noise",
        "PNG cut",
        "PNG noise",
        "BMP cut",
    ],
)
def test_damage_is_found_wherever_the_crop_lies(kind):
    codec = JPEG if kind.startswith("JPEG") else PILLOW
    view = (130.0, (0.0, 0.0), False)  # of the upper left quarter only
    header = tensors(encode(photograph(160, 120), kind.partition(" ")[0]), view)
    assert header[0][0].numpy() == codec
    for corner in ((0.0, 0.0), (1.0, 1.0)):
        with pytest.raises(tf.errors.OpError):
            graph()(tf.constant(damaged(kind)), header[0], header[1]._replace(corner=corner))
