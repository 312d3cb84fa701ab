import os
import re
import sys

import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.cli import main
from gmsrm_jax.config.fields import base_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (60, 44, 52, 3), np.uint8)
    for part, numbers in (("train", range(40)), ("test", range(40, 60))):
        (tmp_path / "set" / part).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(noise[number]).save(tmp_path / "set" / part / f"{number:02d}.png")
    return tmp_path / "set"


def test_a_good_folder(folder, capsys):
    assert main(["data", "set", "--size", "32", "--sheet", "sheet.png"]) == 0
    printed = capsys.readouterr().out
    assert "set: 60 pictures" in printed
    assert "shorter side: 44 to 44 px" in printed
    assert "60 × 52 x 44" in printed
    assert "60 × PNG RGB" in printed
    assert "splits: 36 training, 4 validation, 20 test" in printed
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (8 * 34 - 2, 4 * 34 - 2)
        pixels = np.asarray(sheet)
    sample, holed = pixels[:32, :32], pixels[:32, 34:66]
    hole = (holed == 255).all(-1) & (sample != 255).any(-1)
    assert 0.02 < hole.mean() < 0.98
    np.testing.assert_array_equal(sample[~hole], holed[~hole])


def test_without_tensorflow_the_sheet_can_be_left_out(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert main(["data", "set", "--size", "32", "--sheet", "sheet.png"]) == 2
    said = capsys.readouterr()
    assert "leave it out with --sheet -" in said.err and not said.out
    assert main(["data", "set", "--size", "32", "--sheet", "-"]) == 0


def test_findings_are_named_and_make_the_status_1(folder, capsys):
    (folder / "train" / "page.jpg").write_text("<html>")
    (folder / "train" / os.fsdecode(b"\xff.jpg")).write_text("<html>")
    cut = folder / "train" / "00.png"
    cut.write_bytes(cut.read_bytes()[:-500])
    (folder / "test" / "copy.png").write_bytes((folder / "train" / "01.png").read_bytes())
    config = folder.parent / "card.py"
    config.write_text(
        "from gmsrm_jax.config.fields import apply_argument, base_config\n"
        "def get_config(argument=None):\n"
        "    config = base_config()\n"
        "    config.image_size = 32\n"
        "    config.data.train = 'set'\n"
        "    config.data.validation_bounds = (2, 2)\n"
        "    config.data.max_bad_share = 0.05\n"
        "    return apply_argument(config, argument)\n"
    )
    assert main(["data", "card.py:gm_csv", "--sheet", "-"]) == 1
    printed = capsys.readouterr().out
    assert "3 left out:" in printed
    assert "train/\\xff.jpg: not one of JPEG" in printed
    assert "train/page.jpg: not one of JPEG" in printed
    assert "train/00.png: damaged (" in printed
    assert "test/copy.png = train/01.png" in printed
    assert "1 test picture is a training picture too, such as test/copy.png" in printed


def test_too_many_bad_pictures_make_the_status_2_after_all_are_named(folder, capsys):
    for number in range(5):
        (folder / "train" / f"bad{number}.jpg").write_bytes(b"")
    assert main(["data", "set", "--size", "32", "--sheet", "-"]) == 2
    out, err = capsys.readouterr()
    assert all(f"train/bad{number}.jpg: the file is empty" in out for number in range(5))
    assert "5 of 65 pictures cannot be used" in err
    assert "max_bad_share = 0.01" in err


def make_flat(folder, count):
    folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (count, 40, 40, 3), np.uint8)
    for number in range(count):
        Image.fromarray(noise[number]).save(folder / f"{number}.png")


def test_a_small_folder_is_divided_by_shares_or_refused_with_a_cure_that_works(folder, capsys):
    make_flat(folder.parent / "few", 24)
    assert main(["data", "few", "--size", "32", "--sheet", "-"]) == 0
    assert "splits: 16 training, 4 validation, 4 test" in capsys.readouterr().out
    make_flat(folder.parent / "fewer", 9)
    words = ["data", "fewer", "--size", "32", "--sheet", "-"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "fewer: 9 pictures are too few: 4 for validation and 4 for the test leave 1" in error
    assert "`gmsrm data --test`" in error
    assert main([*words, "--test", "set/test"]) == 0
    assert "splits: 5 training, 4 validation, 20 test" in capsys.readouterr().out


def test_a_part_that_is_too_small_to_judge_by_is_a_finding(folder, capsys):
    make_flat(folder.parent / "one", 1)
    assert main(["data", "set", "--test", "one", "--size", "32", "--sheet", "-"]) == 1
    assert "test: 1 is too few to judge by; use 4 or more" in capsys.readouterr().out


def test_the_help_says_from_when_on_pictures_are_too_few(capsys):
    with pytest.raises(SystemExit):
        main(["data", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    data = base_config().data
    fewest = {data.validation_bounds[0], data.test_bounds[0]}
    (number,) = re.findall(r"fewer in validation or test than .*, (\d+) by default", said)
    assert fewest == {int(number)}


@pytest.mark.parametrize(("part", "count"), [("all", 60), ("train", 40), ("test", 20)])
def test_array_files(folder, part, count):
    arguments = ["data", "set", "--size", "32", "--sheet", "-", "--array", "out.npy"]
    assert main([*arguments, "--part", part, "--side", "40"]) == 0
    array = np.load("out.npy")
    assert (array.shape, array.dtype) == ((count, 40, 40, 3), np.uint8)
    first = {"all": "test/40", "train": "train/00", "test": "test/40"}[part]
    with Image.open(folder / f"{first}.png") as picture:
        scaled = picture.resize((47, 40), Image.Resampling.BICUBIC).crop((3, 0, 43, 40))
    np.testing.assert_array_equal(array[0], np.asarray(scaled))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent: no such folder"),
        (["absent.py"], "no config file 'absent.py'"),
        (["set", "--prepare"], "--prepare is for tfds:NAME"),
        (["set", "--size", "33"], "image_size = 33"),
        (["set", "--sheet", "file/sheet.png"], "file/sheet.png: cannot be written"),
        (["set", "--array", "file/a.npy"], "change --array"),
        (["set", "--array", "a.png"], "must end in .npy"),
        (["set", "--array", "a.npy", "--side", "31"], "--side=31"),
        (["set", "--sheet", ""], "--sheet=: its name must end in .png"),
        (["set", "--sheet", "sheet.jpg"], "--sheet=sheet.jpg: its name must end in .png"),
        (["set", "--sheet", "set/train/00.png"], "lies in set, where it would be taken for"),
        (["set", "--test", "other", "--sheet", "other/s.png"], "lies in other, where it"),
        (["."], "--sheet=data_sheet.png: lies in ., where it would be taken for a picture"),
        (["~no-1/set"], "path=~no-1/set: there is no such home"),
        (["set", "--size", "32", "--masks", "clouds"], "clouds"),
    ],
)
def test_errors_are_one_line(folder, capsys, arguments, message):
    (folder.parent / "file").touch()
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gmsrm: error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("option", ["--threads", "--side", "--size"])
def test_numbers_are_checked(folder, capsys, option):
    with pytest.raises(SystemExit) as caught:
        main(["data", "set", f"{option}=-1"])
    assert caught.value.code == 2
    assert "no whole number from 1" in capsys.readouterr().err


def test_the_squares_of_an_array_file_have_a_largest_side(folder, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["data", "set", "--array", "a.npy", "--side", "99999999999"])
    assert caught.value.code == 2
    assert "no whole number from 1 to 16384" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["data", "{}"],
        ["evaluate", "--images", "{}"],
        ["inpaint", "-i", "set/train/00.png", "-m", "set/train/00.png", "-o", "{}.png"],
        ["inpaint", "-i", "set", "-m", "set/train/00.png", "-o", "out", "--checkpoint", "{}"],
    ],
)
def test_a_name_that_no_file_can_have_is_said_in_one_line(folder, capsys, words):
    assert main([word.format("n" * 300) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gmsrm: error: nnn") and error.count("\n") == 1
    assert error.endswith(": File name too long; give another\n")


def test_pillow_is_not_heard(folder, capsys, recwarn):
    whole = folder / "train" / "whole.tif"
    Image.new("RGB", (40, 40)).save(whole)
    whole.write_bytes(whole.read_bytes()[:100])
    assert main(["data", "set", "--size", "32", "--sheet", "-", "--max-bad-share", "1"]) == 1
    out, err = capsys.readouterr()
    assert "train/whole.tif: " in out and "Warning" not in out + err
    assert not [warning for warning in recwarn if "PIL" in warning.filename]
