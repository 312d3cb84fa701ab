import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image

from gmsrm_jax.assets import asset_path
from gmsrm_jax.data.arrays import write_pictures
from gmsrm_jax.data.fields import Data
from gmsrm_jax.data.listing import list_images
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.inference.picture_io import open_picture
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import open_text_log


def save(path, shade=0, size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 9, 9)).save(path)


def test_list_images_is_recursive_sorted_and_blind_to_case(tmp_path):
    (tmp_path / "b").mkdir()
    names = ["b/1.JPG", "B.png", "a.webp", "c.Tiff", "d.jpeg", "e.bmp", "f.tif", "фото 测试 ä.PNG"]
    names += ["g.jfif", "h.JPE", "i.avif"]
    hidden = [".thumbnails/x.png", "b/.png.part", "b/._1.JPG"]
    for name in [*names, "notes.txt", *hidden]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert found == sorted(names)


def test_links_are_followed_but_not_in_circles(tmp_path):
    save(tmp_path / "real" / "a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "set")
    assert [path.name for path in list_images(tmp_path / "set")] == ["a.png"]


def test_two_links_to_one_folder_both_count_whatever_their_order(tmp_path):
    save(tmp_path / "real" / "a.png")
    for name in ("x", "y"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).symlink_to(tmp_path / "real")
    names = [
        path.relative_to(tmp_path / "set").as_posix() for path in list_images(tmp_path / "set")
    ]
    assert names == ["x/a.png", "y/a.png"]


def test_links_to_nothing_are_bad_pictures(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(UserError, match=r"1 of 2 .*gone\.jpg: cannot be read \(No such file"):
        open_pictures(str(tmp_path))


def test_list_images_says_what_it_found_instead(tmp_path):
    with pytest.raises(UserError, match="no files"):
        list_images(tmp_path)
    for name in ("a.gif", "b.gif", "README"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"\*\.jpg.*2 × \.gif, 1 × no suffix"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="absent"):
        list_images(tmp_path / "absent")


def test_files_of_other_kinds_are_counted_once(tmp_path, capsys):
    open_text_log(None)
    for name in ("a.png", "b/c.JPG", "b/IMG_1.MOV", "e.gif", "f.GIF", "README", "n\n.p\n"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for _ in range(2):
        assert len(list_images(tmp_path)) == 2
    kinds = "2 × .gif, 1 × .mov, 1 × .p\\n, 1 × no suffix"
    line = f"{tmp_path}: 5 files of other kinds are not read ({kinds})\n"
    assert capsys.readouterr().out == line


def test_what_brings_a_kind_is_said_in_a_folder_and_of_a_file(tmp_path):
    """In a process of its own, which finds no pillow-heif."""
    for name in ("IMG_1.HEIC", "a.jpg"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    save(tmp_path / "b.png")
    code = f"""
import sys
sys.modules["pillow_heif"] = None
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.inference.picture_io import open_picture
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import open_text_log
open_text_log(None)
for call in (open_pictures, lambda at: open_picture(at + "/IMG_1.HEIC")):
    try:
        call({str(tmp_path)!r})
    except UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cure = "`pip install pillow-heif`"
    assert f"1 file of another kind is not read (1 × .heic; {cure} for .heic)" in done.stdout
    assert done.stdout.count(f"a HEIF file; {cure} lets it be read") == 2, done.stdout


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize("turn", [1, 6])
def test_pictures_of_phones_are_read_upright(tmp_path, kind, turn):
    path = tmp_path / {"AVIF": "a.avif", "HEIF": "a.HEIC"}[kind]
    ramp = np.repeat(np.arange(0, 240, 5, dtype=np.uint8)[:, None], 40, 1)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    Image.fromarray(ramp).convert("RGB").save(path, kind, exif=exif.tobytes(), quality=95)
    expected = np.rot90(ramp, {1: 0, 6: -1}[turn])[..., None]
    for read in (open_pictures(str(tmp_path)).image(0), open_picture(path).rgb):
        np.testing.assert_allclose(read.astype(int), np.repeat(expected, 3, 2), atol=6)


def test_a_folder_of_which_nothing_can_be_used_says_why(tmp_path):
    for number in range(5):
        save(tmp_path / f"{number}.png", size=(20, 20))
    wanted = r"none of 5 .*\(0\.png: 20 x 20 px, and a side needs 32 px; 1\.png.*and 2 more\)"
    for share in (0.01, 1.0):
        with pytest.raises(UserError, match=wanted):
            open_pictures(str(tmp_path), Data(max_bad_share=share))


def test_headers_of_many_files_are_read_in_their_order(tmp_path):
    for side in (40, 50):
        save(tmp_path / "p" / f"{side}.png", size=(side, 40))
    expected = []
    for number in range(600):
        side = 50 if number % 7 == 0 else 40
        expected.append((f"p/x{number:03d}.png", side))
        os.link(tmp_path / "p" / f"{side}.png", tmp_path / expected[-1][0])
    for number in (300, 8):
        (tmp_path / "p" / f"x{number:03d}.png").unlink()
        (tmp_path / "p" / f"x{number:03d}.png").touch()
    pictures = open_pictures(str(tmp_path), Data(max_bad_share=0.5))
    good = [("p/40.png", 40), ("p/50.png", 50), *np.delete(expected, (8, 300), 0).tolist()]
    assert [pictures.name(row) for row in range(len(pictures))] == [name for name, _ in good]
    assert pictures.headers[:, 3].tolist() == [int(side) for _, side in good]
    assert list(pictures.bad.names.items()) == [
        ("p/x008.png", "the file is empty"),
        ("p/x300.png", "the file is empty"),
    ]


def test_a_set_of_bad_files_alone_is_an_error(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="none of 1 picture can be used"):
        open_pictures(str(tmp_path), Data(max_bad_share=1.0))


def test_names_that_are_not_utf8_can_be_said(tmp_path, capsys):
    for number in range(3):
        save(tmp_path / f"{number}.png")
    (tmp_path / os.fsdecode(b"caf\xe9\n.jpg")).touch()
    with pytest.raises(UserError, match=r"caf\\xe9\\n\.jpg") as caught:
        open_pictures(str(tmp_path))
    str(caught.value).encode()
    open_text_log(None)
    open_pictures(str(tmp_path), Data(max_bad_share=0.5)).bad.say_all()
    assert "left out caf\\xe9\\n.jpg: the file is empty" in capsys.readouterr().out


def test_open_pictures_of_every_kind(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 36, 3), np.uint8)
    write_pictures(tmp_path / "pictures.npy", pixels)
    (tmp_path / "deep").mkdir()
    names = ["0.PNG", "1.bmp", "deep/ß 2.png"]
    for name, array in zip(names, pixels, strict=True):
        Image.fromarray(array).save(tmp_path / name)
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf./" + "\r\n".join(names).encode() + b"\n\n")
    for spec, expected in (
        (tmp_path, names),
        (tmp_path / "pictures.npy", ["000000", "000001", "000002"]),
        (tmp_path / "list.txt", names),
    ):
        pictures = open_pictures(str(spec))
        assert [pictures.name(i) for i in range(len(pictures))] == expected
        np.testing.assert_array_equal([pictures.image(i) for i in range(3)], pixels)
    assert open_pictures(str(tmp_path)).encoded(2) == (tmp_path / names[2]).read_bytes()


def test_a_list_of_files_is_checked(tmp_path):
    save(tmp_path / "a.png")
    path = tmp_path / "list.flist"
    for text, message in (
        ("", "lists no files"),
        ("a.png\na.png\n", r"a\.png more than once"),
        ("a.png\n./a.png\n", r"a\.png more than once"),
        ("a.png\nb.png\n", r"1 of 2 .*b\.png: cannot be read \(No such file"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            open_pictures(str(path))
    with pytest.raises(UserError, match=r"absent\.txt: cannot be read"):
        open_pictures(str(tmp_path / "absent.txt"))


def test_bad_files_are_left_out_up_to_a_share(tmp_path):
    for number in range(18):
        save(tmp_path / f"{number:02d}.png")
    (tmp_path / "page.jpg").write_text("<html>")
    save(tmp_path / "tiny.png", size=(31, 50))
    with pytest.raises(UserError, match=r"2 of 20 .*page\.jpg.*tiny\.png: 31 x 50.*max_bad_share"):
        open_pictures(str(tmp_path))
    pictures = open_pictures(str(tmp_path), Data(max_bad_share=0.1))
    assert len(pictures) == 18
    assert sorted(pictures.bad.names) == ["page.jpg", "tiny.png"]
    pictures.bad.add("00.png", "damaged")
    with pytest.raises(UserError, match="3 of 20"):
        pictures.bad.share(lambda found: [found])


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.jpg", size=(300, 200))
    path = tmp_path / "1.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    pictures = open_pictures(str(tmp_path))
    with pytest.raises(UserError, match=r"1\.jpg: damaged"):
        pictures.image(1)
    (tmp_path / "2.jpg").unlink()
    with pytest.raises(UserError, match=r"2\.jpg: cannot be read"):
        pictures.image(2)


@pytest.mark.parametrize(("part", "count", "side"), [("train", 401, 128), ("test", 60, 160)])
def test_bundled_facades(part, count, side):
    pictures = open_pictures(f"bundled:facades/{part}")
    assert len(pictures) == count
    assert min(pictures.image(count // 2).shape[:2]) == side


def test_bundled_facades_are_small_and_licensed():
    files = [path for path in asset_path("facades").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 5_300_000
    assert "CC0 1.0" in asset_path("facades/LICENSE.txt").read_text()
