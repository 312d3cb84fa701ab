"""Whole runs as a person starts them: the commands of docs/, and one without TensorFlow."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from gmsrm_jax.data.arrays import write_pictures
from gmsrm_jax.data.masks.assignment import make_mask_list
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.data.masks.files import write_mask_bank
from gmsrm_jax.data.masks.list_file import write_mask_list
from gmsrm_jax.data.sources import open_pictures

ROOT = pathlib.Path(__file__).parent.parent
# As in a shell: without what importing the package, as tests do, has set. But the networks run for
# moments: XLA's optimisation would take longer than it saves.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("TF_")},
    "PYTHONPATH": str(ROOT),
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}
STAGES = ("memory", "inpainting")


def runnable_commands() -> list[str]:
    """The commands of docs/training.md in blocks marked runnable, one string each."""
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash runnable\n(.*?)```", text, flags=re.DOTALL)
    return [block.replace("\\\n", " ").strip() for block in blocks]


def start(command: str, workdir: pathlib.Path) -> subprocess.Popen:
    """Starts a documented command, with this interpreter and in a workdir of the test."""
    words = [sys.executable if w == "python" else w for w in shlex.split(command)]
    words = [w for w in words if not w.startswith("--workdir=")]
    return subprocess.Popen(
        [*words, f"--workdir={workdir}"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def scalars(workdir: pathlib.Path, stage: str) -> list[dict]:
    """The log's lines without what depends on the clock."""
    lines = (workdir / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
    clock = ("seconds", "perf/images_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines]


def test_every_runnable_command_of_the_docs_is_one_that_the_tests_below_run():
    short, dry = runnable_commands()
    assert "runlocal" in short
    assert "dry_run" in dry


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The short training run of the docs, uninterrupted: its workdir and output."""
    command = next(c for c in runnable_commands() if "runlocal" in c)
    workdir = tmp_path_factory.mktemp("finished") / "run"
    process = start(command, workdir)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return workdir, output


@pytest.mark.slow
def test_short_run_trains_both_stages_evaluates_and_reports(finished):
    workdir, output = finished
    for word in ("compiling", "GFLOP", "images/s", "left", "PSNR", "report.html"):
        assert word in output
    # The config and the tables of parameters would hide the rest on a screen.
    for file, word in (("config.json", "channel_base"), ("train.log", "network/encoder")):
        assert word in (workdir / file).read_text(encoding="utf-8")
        assert word not in output
    assert "GiB on each device" in output
    for notice in ("absl", "oneDNN"):
        assert notice not in output
    for stage in STAGES:
        assert (workdir / stage / "tensorboard").is_dir()
        assert list((workdir / stage / "panels").glob("*.png"))
        assert scalars(workdir, stage)[-1]["step"] > 0
    for file in ("metrics.json", "per_image.csv", "mask_list.npz"):
        assert (workdir / "evaluation" / file).is_file()
    assert (workdir / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.slow
def test_the_same_command_again_does_nothing_that_is_finished(finished):
    workdir, _ = finished
    before = {p: p.stat().st_mtime_ns for p in workdir.glob("*/checkpoints/*/variables/*")}
    # As if the run had been killed between the scores and the report.
    report = workdir / "report.html"
    report.unlink()
    process = start(next(c for c in runnable_commands() if "runlocal" in c), workdir)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert output.count("nothing to do") == 3
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert {p: p.stat().st_mtime_ns for p in workdir.glob("*/checkpoints/*/variables/*")} == before


@pytest.mark.slow
def test_changed_config_is_refused_with_the_differing_field(finished):
    workdir, _ = finished
    command = next(c for c in runnable_commands() if "runlocal" in c)
    process = start(f"{command} --config.inpainting.hole_weight=3", workdir)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "inpainting.hole_weight (10.0 then, 3.0 now)" in output


@pytest.mark.slow
def test_evaluation_from_a_checkpoint_alone(finished):
    workdir, _ = finished
    file = workdir / "evaluation" / "metrics.json"
    before = json.loads(file.read_text(encoding="utf-8"))
    report = workdir / "report.html"
    file.unlink()
    report.unlink()
    command = next(c for c in runnable_commands() if "runlocal" in c)
    process = start(f"{command} --mode=evaluate", workdir)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    after = json.loads(file.read_text(encoding="utf-8"))
    for metrics in (before, after):
        for key in ("seconds", "examples_per_second"):
            assert metrics["run"].pop(key) > 0
    assert after == before


@pytest.mark.slow
def test_dry_run_says_what_would_be_done_on_one_screen_and_writes_nothing(tmp_path):
    command = next(c for c in runnable_commands() if "dry_run" in c)
    process = start(f"{command} --config.batch_size=8", tmp_path / "run")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    for word in ("devices: 4", "2 per device", "377 for training", "GFLOP", "a step", "GiB"):
        assert word in output
    for notice in ("absl", "oneDNN"):
        assert notice not in output
    assert sum(-(-len(line) // 100) for line in output.splitlines()) <= 24
    assert not (tmp_path / "run").exists()


NO_TENSORFLOW = """
import sys
for name in ("tensorflow", "tensorflow_datasets", "clu"):
    sys.modules[name] = None
import gmsrm_jax
from gmsrm_jax.main import main
sys.exit(main(["main", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_whole_run_from_arrays_without_tensorflow_tfds_and_clu(tmp_path):
    rng = np.random.default_rng(0)
    facades = open_pictures("bundled:facades/train")
    write_pictures(
        tmp_path / "train.npy", [facades.image(i)[:64, :64] for i in rng.permutation(401)[:40]]
    )
    write_pictures(tmp_path / "test.npy", [facades.image(i)[64:128, :64] for i in range(4)])
    masks = [np.roll(center_mask(32, r), s, 1) for r in (0.1, 0.3, 0.5) for s in (-4, 0, 6)]
    write_mask_bank(tmp_path / "masks.npz", np.stack(masks).astype(np.uint8))
    names = [open_pictures(str(tmp_path / "test.npy")).name(i) for i in range(4)]
    write_mask_list(tmp_path / "list.npz", make_mask_list(names, 32, 0))
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            NO_TENSORFLOW,
            "--config=configs/folder.py:pconv,runlocal",
            f"--workdir={tmp_path / 'run'}",
            "--config.tensorboard=False",
            "--config.xla_optimization_level=0",
            "--config.data.pipeline=arrays",
            f"--config.data.train={tmp_path / 'train.npy'}",
            f"--config.data.test={tmp_path / 'test.npy'}",
            f"--config.masks.bank={tmp_path / 'masks.npz'}",
            f"--config.evaluation.masks={tmp_path / 'list.npz'}",
            "--config.pconv.width=4",
            "--config.pconv.length_kimg=0.032",
        ],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    assert scalars(tmp_path / "run", "inpainting")[-1]["step"] == 4  # of 8 pictures each
