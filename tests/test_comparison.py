"""`gmsrm compare` and `gmsrm evaluate` as a person runs them, on networks of a few seconds."""

import contextlib
import csv
import io
import json
import os
import pathlib
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.cli import main
from gmsrm_jax.data.arrays import write_pictures
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.data.masks.files import write_mask_bank
from gmsrm_jax.data.masks.list_file import read_mask_list
from gmsrm_jax.data.sources import open_pictures

ROOT = pathlib.Path(__file__).parent.parent
# Without a memory, with one, and with all parts.
ROWS = {"base": "Base", "gm_bm": "GM-BM", "gm_srm": "GM-SRM"}
SHORT = [
    "data.pipeline=arrays",
    "model.channel_base=128",
    "model.channel_max=8",
    "memory.length_kimg=0.016",
    "memory.r1_interval=0",
    "memory.path_interval=0",
    "memory.validation_samples=8",
    "data.validation_bounds=(8,8)",
    "inpainting.epochs=0.5",
    "inpainting.perceptual_weight=0.0",
    "inpainting.adversarial_weight=0.0",
    "xla_optimization_level=0",
    "evaluation.max_images=4",
    "evaluation.baselines=('mean',)",
    "tensorboard=False",
]
# The networks run for moments: XLA's optimisation would take longer than it saves.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def quick():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def gmsrm(*words):
    """Runs a command in this process, on its four devices; its status and what it complains of."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = main([str(word) for word in words])
    return status, said.getvalue()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Rows that were trained and scored by a program of its own, on one device."""
    folder, data = (tmp_path_factory.mktemp(name) for name in ("comparison", "data"))
    facades = open_pictures("bundled:facades/train")
    write_pictures(data / "train.npy", [facades.image(i)[:64, :64] for i in range(40)])
    masks = [np.roll(center_mask(32, r), s, 1) for r in (0.1, 0.3, 0.5) for s in (-4, 0, 6)]
    write_mask_bank(data / "masks.npz", np.stack(masks).astype(np.uint8))
    own = [f"data.train={data / 'train.npy'}", f"masks.bank={data / 'masks.npz'}"]
    words = ["compare", "--config", "configs/paris.py:runlocal", "--workdir", folder]
    words += ["--rows", ",".join(ROWS), *(f"--config.{change}" for change in SHORT + own)]
    result = subprocess.run(
        [sys.executable, "-m", "gmsrm_jax.cli", *map(str, words)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_NUM_CPU_DEVICES": "1",
            "XLA_FLAGS": QUICK,
        },
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode == 0, result.stderr
    return folder


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_table_iv_holds_the_variants_on_the_same_masks_and_memory(workdir):
    metrics = {name: metrics_of(workdir / name / "evaluation") for name in ROWS}
    assert len({m["mask_list"]["sha256"] for m in metrics.values()}) == 1
    assert len({m["facts"]["weights_sha256"] for m in metrics.values()}) == 3
    table = (workdir / "table_4.md").read_text(encoding="utf-8")
    for name, row in ROWS.items():
        scores = metrics[name]["methods"][row]["composite"]["centre 50%"]
        line = next(line for line in table.splitlines() if line.startswith(f"| {row} |"))
        assert f"{scores['psnr']['mean']:.2f}" in line
        assert f"{scores['ssim']['mean']:.3f}" in line
        steps = (workdir / name / "inpainting" / "log.jsonl").read_text().splitlines()
        assert json.loads(steps[-1])["step"] == 2
    costs = (workdir / "table_comparison.md").read_text(encoding="utf-8")
    assert "| Method | Training pictures | Trained parameters | Frozen parameters | GFLOP" in costs
    assert (workdir / "figures" / "figure_10.png").stat().st_size > 1000
    assert "Table IV" in (workdir / "report.html").read_text(encoding="utf-8")
    assert len(list(workdir.rglob("memory/checkpoints"))) == 1


def test_evaluate_takes_another_program_s_pictures(workdir, tmp_path):
    run = workdir / "gm_srm"
    assert gmsrm("evaluate", "--checkpoint", run, "--export-inputs", tmp_path) == (0, "")
    mask_list = read_mask_list(tmp_path / "mask_list.npz")
    for path in (tmp_path / "images").rglob("*.png"):
        relative = path.relative_to(tmp_path / "images")
        hole = cv2.imread(str(tmp_path / "masks" / relative), cv2.IMREAD_GRAYSCALE)
        filled = cv2.inpaint(cv2.imread(str(path)), hole, 3, cv2.INPAINT_TELEA)
        target = tmp_path / "theirs" / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), filled)
    words = ["evaluate", "--checkpoint", run, "--output", tmp_path / "out", "--noise", "both"]
    words += ["--predictions", f"theirs={tmp_path / 'theirs'}", "--baselines", "telea"]
    further = ["--samples", 2, "--perceptual", "vgg_hole,lpips_alex", "--weights", tmp_path]
    status, said = gmsrm(*words, *further)
    assert status == 2
    assert "lpips_alex was not scored" in said
    assert "vgg_hole" not in said
    assert "gmsrm convert lpips" in said
    metrics = metrics_of(tmp_path / "out")
    assert list(metrics["methods"]) == ["GM-SRM", "GM-SRM, mean noise", "Telea (OpenCV)", "theirs"]
    # The exported holes have the colour that our own baselines see, so both rows are one fill.
    ours, theirs = (metrics["methods"][name]["composite"] for name in ("Telea (OpenCV)", "theirs"))
    for name in mask_list.bins:
        assert ours[name]["psnr"]["mean"] == pytest.approx(theirs[name]["psnr"]["mean"], abs=1e-4)
        for method in metrics["methods"].values():
            assert method["composite"][name]["vgg_hole"]["mean"] > 0.1
    assert set(metrics["samples"]) == {"GM-SRM"}
    with open(tmp_path / "out" / "per_image.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4 * 8 * 4
    for name in ("table_1.md", "table_2.tex", "table_all.html", "figures/figure_6.png"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    with Image.open(tmp_path / "out" / "figures" / "figure_6.png") as figure:
        assert min(figure.size) > 100

    # Their pictures were made anew, under the same names: the old scores do not count any more.
    for path in (tmp_path / "theirs").rglob("*__centre25.png"):
        with Image.open(path) as picture:
            Image.new("RGB", picture.size, (255, 0, 0)).save(path)
    assert gmsrm(*words, "--perceptual", "vgg_hole") == (0, "")
    again = metrics_of(tmp_path / "out")["methods"]["theirs"]["composite"]
    assert again["centre 25%"]["psnr"]["mean"] < theirs["centre 25%"]["psnr"]["mean"] - 1
    assert again["centre 50%"] == theirs["centre 50%"]


def test_one_and_four_devices_give_the_same_scores(workdir, tmp_path):
    run = workdir / "gm_srm"
    assert gmsrm("evaluate", "--checkpoint", run, "--output", tmp_path) == (0, "")
    one, four = metrics_of(run / "evaluation"), metrics_of(tmp_path)
    assert [metrics["run"]["devices"] for metrics in (one, four)] == [1, 4]
    for method, kinds in one["methods"].items():
        for kind, bins in kinds.items():
            for name, scores in bins.items():
                for metric, cell in scores.items():
                    other = four["methods"][method][kind][name][metric]
                    assert cell["count"] == other["count"]
                    if cell["mean"] is not None:
                        np.testing.assert_allclose(cell["mean"], other["mean"], rtol=1e-4)


def test_follow_scores_a_checkpoint_and_ends(workdir, tmp_path):
    words = ["evaluate", "--checkpoint", workdir / "base", "--output", tmp_path, "--follow", 1]
    assert gmsrm(*words) == (0, "")
    assert metrics_of(tmp_path / "step_00000002")["facts"]["checkpoint_step"] == 2
    status, said = gmsrm("evaluate", "--checkpoint", tmp_path / "absent", "--follow", 1)
    assert status == 2
    assert "absent is no workdir of a training" in said
