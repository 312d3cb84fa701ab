"""`gmsrm evaluate` of any network on pictures that have a mask each."""

import csv
import json
import math

import numpy as np
import pytest
from exported_networks import tiny_network
from made_up_scores import make_metrics
from PIL import Image
from scipy import stats

from gmsrm_jax.cli import main
from gmsrm_jax.config.fields import base_config
from gmsrm_jax.data.masks.pairs import paired_masks
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.evaluation.examples import read_examples
from gmsrm_jax.evaluation.verdicts import best_line, gain_line
from gmsrm_jax.networks import save_pretrained
from gmsrm_jax.runtime.errors import UserError

SHARES = {"b": 0.15, "a": 0.25, "c/d": 0.28, "e": 0.75}


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Pictures that are as white as their mask, on its left side and grey elsewhere."""
    monkeypatch.chdir(tmp_path)
    for stem, share in SHARES.items():
        hole = np.zeros((64, 96), np.uint8)
        hole[:, 16 : 16 + round(64 * share)] = 255
        save(tmp_path / "masks" / f"{stem}.png", hole)
        save(tmp_path / "pics" / f"{stem}.bmp", np.repeat(hole[..., None], 3, 2))
    return tmp_path


def paired(**fields):
    config = base_config()
    config.image_size = 32
    config.data.test, config.evaluation.masks = "pics", "masks"
    config.data.update(fields)
    pictures = open_pictures("pics")
    return paired_masks(config, pictures, len(pictures))


def test_an_exported_network_is_scored_on_pairs_in_the_bins_that_occur(folder, capsys):
    save_pretrained("network", tiny_network("base"))
    words = ["evaluate", "--checkpoint", "network", "--images", "pics", "--masks", "masks"]
    assert main([*words, "--baselines", "mean", "--batch-size", "4", "--output", "out"]) == 0
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    with (folder / "out" / "per_image.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "Base"]
    examples = read_examples(folder / "out" / "examples.npz")

    assert metrics["facts"]["checkpoint"] == "network"
    assert set(metrics["methods"]) == {"Base", "mean colour"}
    bins = {row["picture"]: row["bin"] for row in rows}
    # Of 64 x 96 px, 40 x 60 are left of the resize, and of these 32 x 32 of the crop: holes begin
    # left of it, and their right ends are in columns 2.25, 6, 7.25 and 26 of 32.
    expected = {"b": "0-10%", "a": "10-20%", "c/d": "20-30%", "e": "60-100%"}
    assert bins == {f"{stem}.bmp": name for stem, name in expected.items()}
    scored = metrics["methods"]["Base"]["composite"]
    assert list(scored) == list(expected.values())
    for name, scores in scored.items():
        psnr = [float(row["psnr"]) for row in rows if row["bin"] == name]
        assert scores["psnr"]["mean"] == pytest.approx(np.mean(psnr), rel=1e-6)
    assert len(examples.pictures) >= 4
    for truth, mask in zip(examples.truth, examples.mask, strict=True):
        np.testing.assert_array_equal(truth[..., :1] > 127, mask > 0)  # hole and picture agree
    assert "60-100%" in (folder / "out" / "table_all.md").read_text()
    line = "best PSNR of 2 rows: Base in 0-10%, 10-20%, 20-30%, 60-100%"
    assert line in (folder / "out" / "report.html").read_text()
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_masks_may_be_smaller_than_their_pictures_but_not_of_another_shape(folder):
    whole = paired()
    for path in (folder / "masks").rglob("*.png"):
        Image.open(path).resize((48, 32), Image.Resampling.NEAREST).save(path)
    assert np.abs(paired().ratios - whole.ratios).max() < 0.07
    save(folder / "masks" / "e.png", np.full((64, 64), 255, np.uint8))
    with pytest.raises(UserError, match=r"e\.png: 64 x 64 px, but its picture e\.bmp has 96 x 64"):
        paired()


def test_masks_may_be_named_as_they_are_for_filling(folder):
    whole = paired()
    for path in (folder / "masks").rglob("*.png"):
        path.rename(path.with_stem(f"{path.stem}_mask001"))
    assert paired().hashes == whole.hashes


def test_pairs_that_are_not_whole_are_refused_by_name(folder):
    (folder / "masks" / "a.png").rename(folder / "masks" / "x.png")
    with pytest.raises(UserError, match=r"no mask for a\.bmp; no picture for x\.png; complete"):
        paired()


def test_holes_that_the_crop_leaves_out_are_named(folder):
    hole = np.zeros((64, 96), np.uint8)
    hole[:, :9] = 255
    save(folder / "masks" / "a.png", hole)
    with pytest.raises(UserError, match=r"a\.png have no hole in the 32 px.*'direct' keeps it"):
        paired()
    assert paired(test_resize="direct").ratios[0] == pytest.approx(9 / 96, abs=0.03)


def test_masks_named_otherwise_are_for_any_picture(folder):
    for number, path in enumerate(sorted((folder / "masks").rglob("*.png"))):
        path.rename(folder / "masks" / f"{number}.png")
    assert paired() is None


def test_a_network_that_is_no_workdir_needs_pictures(folder, capsys):
    assert main(["evaluate", "--checkpoint", "facades-128"]) == 2
    assert "facades-128 is no workdir" in capsys.readouterr().err
    assert main(["evaluate", "--images", "pics", "--follow", "1"]) == 2
    assert "--follow: photos-128 is no workdir" in capsys.readouterr().err


def test_the_best_row_of_each_bin_is_named_also_where_it_is_no_network():
    metrics = make_metrics(["GM-SRM", "smooth"], bins=("0-10%", "10-20%", "centre 50%"))
    for name, own, other in (("0-10%", 30, 31), ("10-20%", 29, 28), ("centre 50%", 19, None)):
        for method, mean in (("GM-SRM", own), ("smooth", other)):
            metrics["methods"][method]["composite"][name]["psnr"]["mean"] = mean
    assert best_line(metrics) == "best PSNR of 2 rows: smooth in 0-10%; GM-SRM in 10-20%"
    assert best_line(make_metrics(["GM-SRM"])) == ""


@pytest.mark.parametrize(
    ("gains", "sharpness", "said"),
    [
        ([0.9, 1.1, 1.3], [0.5, 0.5, 0.5], "it helped"),
        ([0.9, 1.1, 1.3], [0.7, 0.72, 0.74], "it helped"),
        ([-0.9, -1.1, -1.3], [0.5, 0.5, 0.5], "it did harm, facades-128 is better"),
        ([-0.9, -1.1, -1.3], [0.7, 0.72, 0.74], "they disagree, so compare the pictures"),
        ([0.9, 1.1, 1.3], [0.3, 0.31, 0.3], "they disagree, so compare the pictures"),
        ([-0.9, 1.1, 1.3], [0.5, 0.5, 0.5], "no clear difference"),
        ([-0.9, 1.1, 1.3], [0.7, 0.72, 0.74], "it helped sharpness"),
        ([-0.9, 1.1, 1.3], [1.7, 1.72, 1.74], "it did harm to sharpness"),
        ([0.9, 1.1, 1.3], [math.nan] * 3, "it helped"),
        ([1.0], [0.5], "no clear difference"),
    ],
)
def test_whether_a_fine_tuning_helped_is_said_with_its_spread(tmp_path, gains, sharpness, said):
    lines = ["picture,mask_index,method,psnr,sharpness"]
    for picture, (gain, sharp) in enumerate(zip(gains, sharpness, strict=True)):
        for hole in range(2):
            index, base = 2 * picture + hole, 20.0 + 3 * hole + picture
            lines.append(f'{picture},{index},"before, facades-128",{base},0.5')
            own = base + gain + (0.1 if hole else -0.1)
            lines.append(f"{picture},{index},GM-SRM,{own},{sharp}")
    (tmp_path / "per_image.csv").write_text("\n".join(lines))
    metrics = {
        "facts": {"began_with": {"name": "facades-128", "sha256": ""}},
        "methods": dict.fromkeys(("GM-SRM", "before, facades-128")),
    }
    line = gain_line(tmp_path, metrics)
    assert line.endswith(said) or f": {said}, more" in line
    assert f"PSNR {np.mean(gains):+.2f}" in line
    off = np.mean(np.abs(np.subtract(sharpness, 1)))
    assert (f"sharpness was off by 0.50, now {off:.2f}" in line) != bool(np.isnan(off))
    if len(gains) > 1:
        low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
        assert f"± {(high - low) / 2:.2f} dB" in line
        assert f"on {len(gains)} test pictures" in line
    assert gain_line(tmp_path, {"facts": {}}) == ""
