import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from gmsrm_jax.assets import asset_path
from gmsrm_jax.data import images, pipeline
from gmsrm_jax.data.arrays import write_pictures
from gmsrm_jax.errors import UserError


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tf_reads_the_same_upright_picture_as_pillow(orientation, suffix, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(noise).save(path, exif=exif)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    decoded = pipeline.decode(tf.io.read_file(str(path)))
    np.testing.assert_array_equal(pipeline.upright(decoded, tf.constant(orientation)), expected)
    np.testing.assert_array_equal(images.load_image(path), expected)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16"])
def test_tf_and_pillow_agree_on_png_modes(mode, tmp_path):
    ramp = np.arange(40 * 40).reshape(40, 40)
    if mode == "I;16":
        Image.fromarray((ramp * 40).astype(np.uint16)).save(tmp_path / "a.png")
    else:
        Image.fromarray((ramp % 256).astype(np.uint8)).convert(mode).save(tmp_path / "a.png")
    image = images.load_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    assert image.shape == (40, 40, 3)
    np.testing.assert_array_equal(pipeline.decode(tf.io.read_file(str(tmp_path / "a.png"))), image)
    if mode == "I;16":
        np.testing.assert_array_equal(image[..., 0], ramp * 40 // 256)


def test_tf_reads_grey_bmp(tmp_path):
    Image.fromarray(np.arange(1600).reshape(40, 40).astype(np.uint8)).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(
        pipeline.decode(tf.io.read_file(str(tmp_path / "a.bmp"))),
        images.load_image(tmp_path / "a.bmp"),
    )


def test_list_images_is_recursive_sorted_and_blind_to_case(tmp_path):
    (tmp_path / "b").mkdir()
    names = ["b/1.JPG", "B.png", "a.webp", "c.Tiff", "d.jpeg", "e.bmp", "f.tif"]
    for name in [*names, "notes.txt", "b/.png.part"]:
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in images.list_images(tmp_path)]
    assert found == sorted(names)


def test_list_images_says_what_it_found_instead(tmp_path):
    with pytest.raises(UserError, match="no files"):
        images.list_images(tmp_path)
    for name in ("a.heic", "b.heic", "README"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"\*\.jpg.*2 × \.heic, 1 × no suffix"):
        images.list_images(tmp_path)
    with pytest.raises(UserError, match="absent"):
        images.list_images(tmp_path / "absent")


def test_load_image_names_a_file_it_cannot_read(tmp_path):
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-40])
    (tmp_path / "page.jpg").write_text("<html>")
    Image.new("F", (40, 40)).save(tmp_path / "deep.tif")
    for name in ("cut.jpg", "page.jpg", "absent.png", "deep.tif"):
        with pytest.raises(UserError, match=name):
            images.load_image(tmp_path / name)


@pytest.mark.parametrize(("height", "width"), [(90, 61), (61, 90), (33, 33)])
def test_test_rule_is_shorter_side_then_centre_crop(height, width):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    scale = 40 / min(height, width)
    scaled = (round(width * scale), round(height * scale))
    whole = np.asarray(Image.fromarray(noise).resize(scaled, Image.Resampling.BICUBIC))
    top, left = (scaled[1] - 32) // 2, (scaled[0] - 32) // 2
    result = images.resize_for_test(noise, 32, 1.25, "shorter_side")
    np.testing.assert_array_equal(result, whole[top : top + 32, left : left + 32])
    direct = images.resize_for_test(noise, 32, 1.25, "direct")
    expected = Image.fromarray(noise).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(direct, expected)


def test_test_rule_errors():
    picture = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(UserError, match=r"stretch.*shorter_side, direct"):
        images.resize_for_test(picture, 32, 1.25, "stretch")
    with pytest.raises(UserError, match=r"shorter_side = 0\.9"):
        images.resize_for_test(picture, 32, 0.9, "shorter_side")


def test_open_pictures_of_every_kind(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 36, 3), np.uint8)
    write_pictures(tmp_path / "pictures.npy", pixels)
    (tmp_path / "deep").mkdir()
    names = ["0.PNG", "1.bmp", "deep/2.png"]
    for name, array in zip(names, pixels, strict=True):
        Image.fromarray(array).save(tmp_path / name)
    for spec, expected in (
        (tmp_path, names),
        (tmp_path / "pictures.npy", ["000000", "000001", "000002"]),
    ):
        pictures = images.open_pictures(str(spec))
        assert [pictures.name(i) for i in range(len(pictures))] == expected
        np.testing.assert_array_equal([pictures.image(i) for i in range(3)], pixels)


def test_small_pictures_are_refused_by_name(tmp_path):
    Image.new("RGB", (31, 50)).save(tmp_path / "tiny.png")
    with pytest.raises(UserError, match=r"tiny\.png.*31 x 50"):
        images.open_pictures(str(tmp_path)).image(0)


@pytest.mark.parametrize(("part", "count", "side"), [("train", 401, 128), ("test", 60, 160)])
def test_bundled_facades(part, count, side):
    pictures = images.open_pictures(f"bundled:facades/{part}")
    assert len(pictures) == count
    assert min(pictures.image(count // 2).shape[:2]) == side


def test_bundled_facades_are_small_and_licensed():
    files = [path for path in asset_path("facades").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 5_300_000
    assert "CC0 1.0" in asset_path("facades/LICENSE.txt").read_text()
