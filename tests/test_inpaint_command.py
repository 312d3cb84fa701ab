import functools
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported_networks import exported
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import get_sampling

from gmsrm_jax.cli import main
from gmsrm_jax.inference import bulk
from gmsrm_jax.inference import inpainter as inpainting
from gmsrm_jax.inference.bulk import BulkFiller
from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.inference.manifest import Manifest
from gmsrm_jax.inference.options import FillOptions
from gmsrm_jax.inference.pairing import Job, Pair
from gmsrm_jax.runtime.errors import UserError

HEIGHT, WIDTH = 60, 72
HOLE = np.s_[20:36, 28:50]


@functools.cache
def _load(*arguments, **options):
    return ORIGINAL(*arguments, **options)


ORIGINAL = Inpainter.from_pretrained


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return str(exported(tmp_path_factory.mktemp("weights") / "tiny network"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The same weights are loaded and compiled once for all tests.
    monkeypatch.setattr(Inpainter, "from_pretrained", _load)


@pytest.fixture
def inpaint(weights):
    def run(*options: str) -> int:
        # What became of single pictures is looked at in many tests.
        alone = "-i" in options and Path(options[options.index("-i") + 1]).is_file()
        told = ["--manifest", "manifest.jsonl"] if alone and "--manifest" not in options else []
        return main(["inpaint", "--checkpoint", weights, *options, *told])

    return run


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_picture(path: str, seed: int = 0, **options) -> np.ndarray:
    pixels = noise(seed, HEIGHT, WIDTH, 3)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def write_mask(path: str, white: int = 255, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[HOLE] = white
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return mask > 0


def pixels_of(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def lines(path: str = "manifest.jsonl") -> list[dict]:
    text = Path(path).read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def changed(picture: np.ndarray, path: str | Path) -> np.ndarray:
    return (pixels_of(path) != picture).any(-1)


def test_one_picture(inpaint, weights, capsys):
    picture, hole = write_picture("фото 测试 ä.png"), write_mask("m.png")
    assert inpaint("-i", "фото 测试 ä.png", "-m", "m.png", "-o", "new/filled ä.png") == 0
    where = changed(picture, "new/filled ä.png")
    assert not where[~hole].any()
    assert where[hole].mean() > 0.9
    (line,) = lines()
    assert line["status"] == "ok"
    assert (line["image"], line["mask"]) == ("фото 测试 ä.png", "m.png")
    assert line["image_sha256"] == sha256("фото 测试 ä.png")
    assert line["mask_sha256"] == sha256("m.png")
    assert (line["format"], line["mode"]) == ("PNG", "RGB")
    assert (line["width"], line["height"]) == (WIDTH, HEIGHT)
    assert line["hole_ratio"] == pytest.approx(hole.mean(), abs=1e-6)
    assert (line["seed"], line["strategy"]) == (0, "detail")
    assert line["outputs"] == [
        {"path": "new/filled ä.png", "seed": 0, "sha256": sha256("new/filled ä.png")}
    ]
    assert (line["known_pixels"], line["notes"], line["warnings"]) == ("kept", [], [])
    assert line["error"] is None
    assert line["seconds"] > 0
    inpainter = _load(weights, device="auto", offline=False)
    assert (line["checkpoint"], line["checkpoint_sha256"]) == (weights, inpainter.sha256)
    assert line["device"].startswith("cpu")
    first, *_, last = capsys.readouterr().out.splitlines()  # a slow one tells how far it is
    assert first.startswith(f"1 to fill, 0 skipped; {weights}, sha256 {inpainter.sha256[:16]}, on ")
    assert "on cpu" in first
    assert last.startswith("1 filled, 0 failed, 0 skipped in ")
    assert last.endswith("s on cpu; manifest manifest.jsonl")


def test_a_single_picture_has_a_manifest_only_if_it_is_asked_for(weights, capsys):
    write_picture("a.jpg")
    write_mask("m.png")
    command = ["inpaint", "--checkpoint", weights, "-i", "a.jpg", "-m", "m.png", "-o"]
    assert main([*command, "out/b.jpg", "--format", "same"]) == 0
    assert [path.name for path in Path("out").iterdir()] == ["b.jpg"]
    printed = capsys.readouterr().out
    assert "manifest" not in printed and "JPEG is lossy: known pixels are re-encoded" in printed
    assert main([*command, "out/b.jpg", "--format", "same", "--skip-existing"]) == 0
    assert capsys.readouterr().out.endswith("nothing to do, all is there: 1 output\n")
    assert main([*command, "c.png", "--manifest", "told.jsonl"]) == 0
    assert capsys.readouterr().out.endswith("; manifest told.jsonl\n")
    assert lines("told.jsonl")[0]["status"] == "ok"


def test_folders(inpaint):
    pictures = {}
    for number, name in enumerate(("b", "sub dir/a", "ä")):
        pictures[name] = write_picture(f"pics/{name}.png", number), write_mask(f"masks/{name}.png")
    assert inpaint("-i", "pics", "-m", "masks", "-o", "out") == 0
    for name, (picture, hole) in pictures.items():
        where = changed(picture, f"out/{name}.png")
        assert not where[~hole].any()
        assert where[hole].mean() > 0.9
    assert {line["outputs"][0]["path"] for line in lines("out/manifest.jsonl")} == {
        f"out/{name}.png" for name in pictures
    }


def test_samples_differ_and_seeds_repeat(inpaint):
    picture, hole = write_picture("a.png"), write_mask("m.png")
    given = ("-i", "a.png", "-m", "m.png", "-o")
    assert inpaint(*given, "x.png", "--num-samples", "3") == 0
    assert inpaint(*given, "y.png", "--seed", "1") == 0
    samples = [pixels_of(f"x_s{number:02d}.png") for number in range(3)]
    assert (samples[0] != samples[1])[hole].mean() > 0.5
    assert (samples[2] != samples[1])[hole].mean() > 0.5
    np.testing.assert_array_equal(samples[1], pixels_of("y.png"))
    assert not (samples[2] != picture)[~hole].any()
    first, second = lines()
    assert [output["seed"] for output in first["outputs"]] == [0, 1, 2]
    assert (second["seed"], second["outputs"][0]["seed"]) == (1, 1)


def test_strategy_and_feather(inpaint):
    picture, hole = write_picture("a.png"), write_mask("m.png")
    given = ("-i", "a.png", "-m", "m.png", "-o")
    for strategy in ("resize", "crop", "tile"):
        assert inpaint(*given, f"{strategy}.png", "--strategy", strategy) == 0
    assert inpaint(*given, "soft.png", "--strategy", "crop", "--feather", "3") == 0
    assert [line["strategy"] for line in lines()] == ["resize", "crop", "tile", "crop"]
    assert [line["options"]["feather"] for line in lines()] == [0, 0, 0, 3]
    assert (pixels_of("resize.png") != pixels_of("crop.png"))[hole].any()
    soft = changed(pixels_of("crop.png"), "soft.png")
    assert soft.any()
    core = np.zeros_like(hole)
    core[23:33, 31:47] = True
    assert not soft[core | ~hole].any()
    assert not changed(picture, "soft.png")[~hole].any()


@pytest.mark.parametrize(
    ("options", "rows", "columns"),
    [
        ((), (20, 36), (28, 50)),
        (("--mask-dilate", "4"), (16, 40), (24, 54)),
        (("--mask-threshold", "150"), None, None),
    ],
)
def test_threshold_and_dilate(inpaint, options, rows, columns):
    picture = write_picture("a.png")
    write_mask("m.png", white=140)
    status = 1 if rows is None else 0
    assert inpaint("-i", "a.png", "-m", "m.png", "-o", "b.png", *options) == status
    where = changed(picture, "b.png")
    (line,) = lines()
    if rows is None:
        assert not where.any()
        assert line["strategy"] == "none"
        assert any("no hole in it" in warning for warning in line["warnings"])
        return
    found = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    assert [(int(axis[0]), int(axis[-1]) + 1) for axis in found] == [rows, columns]
    area = (rows[1] - rows[0]) * (columns[1] - columns[0])
    assert line["hole_ratio"] == pytest.approx(area / (HEIGHT * WIDTH), abs=1e-6)


def test_invert(inpaint):
    picture, kept = write_picture("a.png"), write_mask("m.png")
    assert inpaint("-i", "a.png", "-m", "m.png", "-o", "b.png", "--mask-invert") == 0
    where = changed(picture, "b.png")
    assert not where[kept].any()
    assert where[~kept].mean() > 0.9
    (line,) = lines()
    assert line["options"]["mask_invert"] is True
    assert line["hole_ratio"] == pytest.approx(1 - kept.mean(), abs=1e-6)


def test_masks_of_another_size(inpaint, capsys):
    picture = write_picture("a.png")
    mask = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
    mask[10:20, 8:18] = 255
    Image.fromarray(mask).save("m.png")
    assert inpaint("-i", "a.png", "-m", "m.png", "-o", "b.png") == 1
    assert "36 x 30 px, but the picture is displayed at 72 x 60 px" in capsys.readouterr().out
    assert not Path("b.png").exists()
    assert inpaint("-i", "a.png", "-m", "m.png", "-o", "b.png", "--mask-resize", "nearest") == 0
    hole = np.kron(mask, np.ones((2, 2), np.uint8)) > 0
    where = changed(picture, "b.png")
    assert not where[~hole].any()
    assert where[hole].mean() > 0.9


def test_the_hole_in_alpha(inpaint, capsys):
    pixels = np.dstack([noise(0, HEIGHT, WIDTH, 3), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    pixels[(*HOLE, 3)] = 0
    Path("pics").mkdir()
    Image.fromarray(pixels).save("pics/a.png")
    write_picture("pics/b.jpg")
    assert inpaint("-i", "pics", "--mask-from-alpha", "-o", "out") == 1
    filled = pixels_of("out/a.png")
    hole = pixels[..., 3] == 0
    np.testing.assert_array_equal(filled[~hole], pixels[~hole])
    assert (filled[..., 3] == 255).all()
    assert (filled != pixels)[hole].any()
    assert "pics/b.jpg: no mask is given and the picture has no transp" in capsys.readouterr().out
    by_image = {line["image"]: line for line in lines("out/manifest.jsonl")}
    assert by_image["pics/a.png"]["mask"] is None
    assert by_image["pics/b.jpg"]["status"] == "failed"


def test_empty_and_full_masks_are_warned_of_once(inpaint, capsys):
    pictures = [write_picture(f"pics/{number}.png", number) for number in range(3)]
    Image.new("L", (WIDTH, HEIGHT)).save("black.png")
    Image.new("L", (WIDTH, HEIGHT), 255).save("white.png")
    assert inpaint("-i", "pics", "-m", "black.png", "-o", "out") == 1
    printed = capsys.readouterr().out
    assert printed.count("warning: black.png: no hole in it") == 1
    assert "0 filled, 3 copied (no hole), 0 failed" in printed
    for number, picture in enumerate(pictures):
        assert not changed(picture, f"out/{number}.png").any()
    found = lines("out/manifest.jsonl")
    assert [line["strategy"] for line in found] == ["none"] * 3
    assert [line["status"] for line in found] == ["copied"] * 3
    assert all("no hole in it" in line["warnings"][0] for line in found)
    assert inpaint("-i", "pics/0.png", "-m", "white.png", "-o", "full.png") == 0
    assert "warning: white.png: all of it is hole" in capsys.readouterr().out
    Path("out/2.png").unlink()
    assert inpaint("-i", "pics", "-m", "black.png", "-o", "out", "--skip-existing") == 0
    assert "0 filled, 1 copied (no hole), 0 failed, 2 skipped" in capsys.readouterr().out


def test_a_rotated_jpeg_in_its_own_format(inpaint, capsys):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stored = Image.fromarray(noise(0, 6, 8, 3)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    stored.save("a.jpg", quality=90, subsampling=1, exif=exif, icc_profile=profile)
    with Image.open("a.jpg") as image:
        displayed = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    hole = np.zeros((WIDTH, HEIGHT), bool)
    hole[HOLE] = True
    write_mask("m.png", size=(WIDTH, HEIGHT))
    given = ("-i", "a.jpg", "-m", "m.png")
    assert inpaint(*given, "-o", "b.png") == 0
    assert not changed(displayed, "b.png")[~hole].any()
    capsys.readouterr()
    assert inpaint(*given, "-o", "b.jpg", "--format", "same") == 0
    assert "1 with known pixels encoded anew" in capsys.readouterr().out
    exact, lossy = lines()
    assert (exact["known_pixels"], lossy["known_pixels"]) == ("kept", "re-encoded")
    assert any("JPEG is lossy" in note for note in lossy["notes"])
    assert (lossy["width"], lossy["height"]) == (HEIGHT, WIDTH)
    for name in ("b.png", "b.jpg"):
        with Image.open(name) as image:
            assert image.size == (HEIGHT, WIDTH)
            assert image.getexif().get(0x0112, 1) == 1
            assert image.getexif()[0x010F] == "camera"
            assert image.info["icc_profile"] == profile
    with Image.open("a.jpg") as before, Image.open("b.jpg") as after:
        assert after.quantization == before.quantization
        assert get_sampling(after) == get_sampling(before)
    far = ~hole
    far[12:44, 20:58] = False  # JPEG's blocks carry the hole's edge a little further
    assert np.abs(pixels_of("b.jpg").astype(int) - displayed)[far].mean() < 3
    assert inpaint(*given, "-o", "b.jpg") == 2
    assert "name it b.png, or pass --format same" in capsys.readouterr().err


def test_same_keeps_lossless_formats(inpaint, capsys):
    picture = write_picture("pics/a.bmp")
    write_picture("pics/b.tif")
    Image.fromarray(picture).save("pics/c.jpg", format="PNG")
    write_mask("m.png")
    assert inpaint("-i", "pics", "-m", "m.png", "-o", "out", "--format", "same") == 0
    found = {line["image"]: line for line in lines("out/manifest.jsonl")}
    assert [found[f"pics/{name}"]["known_pixels"] for name in ("a.bmp", "b.tif", "c.jpg")] == [
        "kept",
        "kept",
        "re-encoded",
    ]
    with Image.open("out/a.bmp") as bmp, Image.open("out/c.jpg") as jpeg:
        assert (bmp.format, jpeg.format) == ("BMP", "JPEG")
    assert "pics/c.jpg: holds PNG; written as JPEG" in capsys.readouterr().out


def test_bad_files_do_not_stop_the_others(inpaint, capsys):
    for number in range(6):
        write_picture(f"pics/{number}.png", number)
        write_mask(f"masks/{number}.png")
    cut = Path("pics/1.png")
    cut.write_bytes(cut.read_bytes()[:-2000])
    Path("pics/3.png").write_text("<html>")
    Path("masks/4.png").write_bytes(b"")
    os.unlink("pics/5.png")
    os.symlink("nowhere", "pics/5.png")
    assert inpaint("-i", "pics", "-m", "masks", "-o", "out") == 1
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "0.png",
        "2.png",
        "manifest.jsonl",
    ]
    printed = capsys.readouterr().out
    for name in ("pics/1.png", "pics/3.png", "pics/4.png: masks/4.png", "pics/5.png"):
        assert f"failed: {name}: " in printed
    assert "2 filled, 4 failed, 0 skipped in" in printed
    found = {line["image"]: line for line in lines("out/manifest.jsonl")}
    assert [found[f"pics/{number}.png"]["status"] for number in range(6)] == [
        "ok",
        "failed",
        "ok",
        "failed",
        "failed",
        "failed",
    ]
    assert "not one of JPEG" in found["pics/3.png"]["error"]
    assert found["pics/1.png"]["image_sha256"] == sha256("pics/1.png")
    assert found["pics/1.png"]["outputs"] == []


def test_a_picture_that_memory_does_not_suffice_for_fails_alone(inpaint, capsys, monkeypatch):
    whole = inpainting.fill

    def fill(strategy, rgb, *arguments):
        if rgb.shape[0] == HEIGHT:
            raise MemoryError
        return whole(strategy, rgb, *arguments)

    monkeypatch.setattr(inpainting, "fill", fill)
    write_picture("pics/a.png")
    Image.fromarray(noise(1, HEIGHT + 1, WIDTH, 3)).save("pics/b.png")
    write_mask("m.png")
    assert inpaint("-i", "pics", "-m", "m.png", "-o", "out", "--mask-resize", "nearest") == 1
    printed = capsys.readouterr().out
    assert "failed: pics/a.png: 72 x 60 px need more memory than there is" in printed
    assert "1 filled, 1 failed" in printed and Path("out/b.png").exists()


def test_an_output_that_cannot_be_written_fails_alone(inpaint, capsys):
    write_picture("pics/a.png")
    write_picture("pics/sub/b.png")
    write_mask("m.png")
    Path("out").mkdir()
    Path("out/sub").write_text("in the way")
    assert inpaint("-i", "pics", "-m", "m.png", "-o", "out") == 1
    assert "failed: out/sub" in capsys.readouterr().out
    assert Path("out/a.png").exists()


def test_a_run_of_bad_files_is_told_as_it_goes(weights):
    for number in range(60):
        Path(f"a{number:02d}.png").write_bytes(b"no picture")
    write_picture("z.png")
    mask = Path("m.png")
    write_mask("m.png")
    names = [*(f"a{number:02d}" for number in range(60)), "z"]
    jobs = [Job(Pair(n, Path(f"{n}.png"), mask), (Path(f"out/{n}.png"),)) for n in names]
    manifest = Manifest(Path("manifest.jsonl"))
    stream = BulkFiller(Inpainter.from_pretrained(weights), manifest, FillOptions()).fill(jobs)
    first = next(stream)
    assert "a00.png" in first.error
    assert len(lines()) < 30
    assert [done.job.pair.stem for done in (first, *stream)] == names
    assert [line["status"] for line in lines()].count("failed") == 60


def test_a_failed_picture_keeps_its_warnings(inpaint, capsys):
    frames = [Image.fromarray(noise(k, HEIGHT, WIDTH, 3)) for k in range(2)]
    frames[0].save("a.tif", save_all=True, append_images=frames[1:])
    write_mask("m.png", size=(HEIGHT + 1, WIDTH))
    assert inpaint("-i", "a.tif", "-m", "m.png", "-o", "out") == 1
    (line,) = lines()
    assert line["status"] == "failed" and "only the first" in line["warnings"][0]
    assert "warning: a.tif: only the first" in capsys.readouterr().out


def test_a_bug_ends_the_run_and_leaves_whole_lines(inpaint, monkeypatch):
    for number in range(12):
        write_picture(f"in/{number:02d}.png", number)
    write_mask("m.png")
    encode = bulk.encode_picture
    calls = []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise ZeroDivisionError("a bug")
        return encode(*arguments)

    monkeypatch.setattr(bulk, "encode_picture", broken)
    with pytest.raises(ZeroDivisionError):
        inpaint("-i", "in", "-m", "m.png", "-o", "out")
    done = lines("out/manifest.jsonl")
    assert 4 <= len(done) < 12
    for line in done:
        (output,) = line["outputs"]
        assert sha256(output["path"]) == output["sha256"]
    assert len(list(Path("out").glob("*.png"))) == len(done)
    monkeypatch.setattr(bulk, "encode_picture", encode)
    assert inpaint("-i", "in", "-m", "m.png", "-o", "out", "--skip-existing") == 0


def test_names_as_long_as_they_may_be(inpaint):
    write_picture("a.png")
    write_mask("m.png")
    name = "n" * 251 + ".png"
    manifest = ("--manifest", "manifest.jsonl")
    assert inpaint("-i", "a.png", "-m", "m.png", "-o", f"out/{name}", *manifest) == 0
    assert [path.name for path in Path("out").iterdir()] == [name]


def test_pillow_is_not_heard(inpaint, recwarn):
    write_picture("a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05")
    write_mask("m.png")
    Image.open("a.jpg").getexif()
    assert "Corrupt EXIF" in str(recwarn.pop(UserWarning).message)
    assert inpaint("-i", "a.jpg", "-m", "m.png", "-o", "out") == 0
    assert not [found for found in recwarn if "EXIF" in str(found.message)]


def test_existing_outputs(inpaint, capsys):
    write_picture("pics/a.png", 0)
    picture = write_picture("pics/b.png", 1)
    hole = write_mask("m.png")
    given = ("-i", "pics", "-m", "m.png", "-o", "out")
    Path("out").mkdir()
    Path("out/a.png").write_text("mine")
    assert inpaint(*given) == 2
    assert "outputs exist already: out/a.png; pass --overwrite" in capsys.readouterr().err
    assert not Path("out/b.png").exists()
    assert inpaint(*given, "--skip-existing") == 0
    assert Path("out/a.png").read_text() == "mine"
    assert not changed(picture, "out/b.png")[~hole].any()
    assert "1 filled, 0 failed, 1 skipped in" in capsys.readouterr().out
    assert [(line["status"], line["image"]) for line in lines("out/manifest.jsonl")] == [
        ("skipped", "pics/a.png"),
        ("ok", "pics/b.png"),
    ]
    assert inpaint(*given, "--overwrite") == 0
    assert pixels_of("out/a.png").shape == (HEIGHT, WIDTH, 3)
    assert len(lines("out/manifest.jsonl")) == 4
    capsys.readouterr()
    assert inpaint(*given, "--skip-existing") == 0
    assert "nothing to do, all is there: 2 outputs" in capsys.readouterr().out


def test_only_missing_samples_are_written(inpaint):
    write_picture("a.png")
    write_mask("m.png")
    given = ("-i", "a.png", "-m", "m.png", "-o", "b.png", "--num-samples", "2")
    assert inpaint(*given) == 0
    before = pixels_of("b_s01.png")
    Path("b_s00.png").write_text("mine")
    Path("b_s01.png").unlink()
    assert inpaint(*given, "--skip-existing") == 0
    assert Path("b_s00.png").read_text() == "mine"
    np.testing.assert_array_equal(pixels_of("b_s01.png"), before)
    assert [output["path"] for output in lines()[1]["outputs"]] == ["b_s01.png"]


def test_ctrl_c_keeps_what_is_finished(inpaint, capsys, monkeypatch):
    for number in range(8):
        write_picture(f"pics/{number}.png", number)
    write_mask("m.png")
    given = ("-i", "pics", "-m", "m.png", "-o", "out")
    whole, calls = Inpainter.__call__, itertools.count()

    def interrupted(self, *arguments, **options):
        if next(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return whole(self, *arguments, **options)

    monkeypatch.setattr(Inpainter, "__call__", interrupted)
    assert inpaint(*given) == 130
    assert capsys.readouterr().err == "gmsrm: stopped; what is finished is kept\n"
    finished = {path.name for path in Path("out").glob("*.png")}
    assert 0 < len(finished) < 8
    assert {Path(line["outputs"][0]["path"]).name for line in lines("out/manifest.jsonl")} == (
        finished
    )
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]
    monkeypatch.setattr(Inpainter, "__call__", whole)
    assert inpaint(*given, "--skip-existing") == 0
    statuses = [line["status"] for line in lines("out/manifest.jsonl")[len(finished) :]]
    assert statuses == ["skipped"] * len(finished) + ["ok"] * (8 - len(finished))


def test_device_checkpoint_and_offline(inpaint, weights, capsys):
    write_picture("a.png")
    write_mask("m.png")
    given = ("-i", "a.png", "-m", "m.png", "-o", "b.png")
    assert inpaint(*given, "--device", "tpu") == 2
    assert "device tpu: JAX finds none here" in capsys.readouterr().err
    assert inpaint(*given, "--device", "cpu") == 0
    assert "on cpu" in capsys.readouterr().out
    elsewhere = ("inpaint", *given, "--overwrite", "--checkpoint")
    assert main([*elsewhere, "nowhere"]) == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err
    assert main([*elsewhere, "https://example.invalid/weights"]) == 2
    assert (
        "not fetched from an address; give org/name of the Hugging Face Hub"
        in capsys.readouterr().err
    )
    assert len(lines()) == 1


def test_max_pixels(inpaint, capsys):
    write_picture("a.png")
    write_mask("m.png")
    given = ("-i", "a.png", "-m", "m.png", "-o", "b.png", "--max-pixels")
    assert inpaint(*given, str(WIDTH * HEIGHT - 1)) == 1
    assert "a.png: 72 x 60 px are more than the limit of 4319 px" in capsys.readouterr().out
    assert inpaint(*given, str(WIDTH * HEIGHT)) == 0


def test_a_manifest_elsewhere(inpaint, capsys):
    write_picture("a.png")
    write_mask("m.png")
    given = ("-i", "a.png", "-m", "m.png", "-o", "b.png", "--overwrite", "--manifest")
    assert inpaint(*given, "log/x.jsonl") == 0
    assert not Path("manifest.jsonl").exists()
    with open("log/x.jsonl", "ab") as file:
        file.write(b'{"time": "2026-')  # cut off by a power failure
    assert inpaint(*given, "log/x.jsonl") == 0
    assert [line["status"] for line in lines("log/x.jsonl")] == ["ok", "ok"]
    Path("notes.txt").write_text("mine\n")
    assert inpaint(*given, "notes.txt") == 2
    assert "notes.txt: is there and no manifest" in capsys.readouterr().err
    assert Path("notes.txt").read_text() == "mine\n"
    assert inpaint(*given, "b.png") == 2


@pytest.mark.parametrize("name", ["o.png", "./o.png", "link/o.png"])
def test_a_manifest_that_is_the_output_is_refused(inpaint, capsys, name):
    write_picture("p.png")
    write_mask("m.png")
    os.symlink(".", "link")
    assert inpaint("-i", "p.png", "-m", "m.png", "-o", "o.png", "--manifest", name) == 2
    assert "o.png: is an output, too; name another file" in capsys.readouterr().err
    assert not Path("o.png").exists()


@pytest.mark.parametrize("option", ["-i", "-m", "-o", "--manifest", "--checkpoint"])
@pytest.mark.parametrize(
    ("path", "said"), [("", ": is empty; name a file"), ("~no-1/x.png", "there is no such home")]
)
def test_empty_paths_and_unknown_homes_are_refused(inpaint, capsys, option, path, said):
    pixels = np.dstack([noise(0, HEIGHT, WIDTH, 3), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    pixels[HOLE] = 0  # what an empty --mask is no wish to fill
    Image.fromarray(pixels).save("p.png")
    write_mask("m.png")
    given = {"-i": "p.png", "-m": "m.png", "-o": "out.png", option: path}
    assert inpaint(*itertools.chain.from_iterable(given.items())) == 2
    error = capsys.readouterr().err
    assert error.startswith("gmsrm: error: ") and said in error and error.count("\n") == 1
    assert not Path("out.png").exists()


def test_a_manifest_has_its_fields_only(tmp_path):
    manifest = Manifest(tmp_path / "m.jsonl")
    with pytest.raises(TypeError, match="colour"):
        manifest.append(status="ok", image="a.png", colour="red")
    manifest.append(status="failed", image=os.fsdecode(b"\xff.png"), error="why")
    manifest.close()
    (line,) = lines(str(tmp_path / "m.jsonl"))
    assert os.fsencode(line["image"]) == b"\xff.png"
    with pytest.raises(UserError, match="cannot be written"):
        Manifest(tmp_path)


def test_help_tells_meaning_and_default_of_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["inpaint", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name, field in FillOptions.model_fields.items():
        assert f"--{name.replace('_', '-')} " in told and field.description in told
        if field.default not in (None, False):
            assert f"{field.description} (default: {field.default})" in told


def test_a_wrong_option_is_told_before_anything_is_loaded(inpaint, capsys, monkeypatch):
    monkeypatch.delattr(Inpainter, "from_pretrained")
    given = ("-i", "a.png", "-m", "m.png", "-o", "b.png", "--seed")
    assert inpaint(*given, "4294967295", "--num-samples", "2") == 2
    assert capsys.readouterr().err == "gmsrm: error: seed = 4294967295; use 0 to 4294967294\n"
    for seed, message in (("x", "'x' is not of type int"), ("-1", "-1; use 0 to 4294967295")):
        with pytest.raises(SystemExit):
            inpaint(*given, seed)
        assert f"argument --seed: seed = {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-m", "m.png", "--mask-from-alpha"),
        ("-m", "m.png", "--overwrite", "--skip-existing"),
        ("-m", "m.png", "--num-samples", "0"),
        ("-m", "m.png", "--seed", "-1"),
        ("-m", "m.png", "--mask-threshold", "0"),
        ("-m", "m.png", "--mask-threshold", "256"),
        ("-m", "m.png", "--strategy", "full"),
        ("-m", "m.png", "--mask-resize", "bilinear"),
        ("-m", "m.png", "--forma", "same"),
    ],
)
def test_options_that_make_no_sense(inpaint, options):
    with pytest.raises(SystemExit) as caught:
        inpaint("-i", "a.png", "-o", "b.png", *options)
    assert caught.value.code == 2


def test_a_process_of_its_own_needs_no_tensorflow(weights):
    picture, hole = write_picture("a b.png"), write_mask("m.png")
    program = (
        "import sys; from gmsrm_jax.cli import main; status = main();"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'clu', 'orbax'};"
        "heavy |= {'pandas', 'matplotlib', 'jinja2'};"
        "sys.exit(status or heavy & sys.modules.keys() or 0)"
    )
    options = ["inpaint", "-i", "a b.png", "-m", "m.png", "-o", "out", "--checkpoint", weights]
    done = subprocess.run(
        [sys.executable, "-c", program, *options], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("1 filled, 0 failed")
    assert not changed(picture, "out/a b.png")[~hole].any()
    assert [path.name for path in Path("out").iterdir()] == ["a b.png"]
