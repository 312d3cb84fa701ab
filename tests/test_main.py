"""The command line: what cannot be run ends in one line that says why, and status 2."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def run_main(*arguments: str, cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "gmsrm_jax.main", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["--config is missing", "configs/demo.py"]),
        (("--config=configs/nope.py",), ["'configs/nope.py'", "configs/demo.py"]),
        (("--config=configs/demo.py:gm_xyz",), ["'gm_xyz'", "gm_srm", "runlocal"]),
        (("--config=configs/demo.py", "--config.nope=3"), ["--config.nope=3", "no such field"]),
        (("--config=configs/demo.py", "--config.bach_size=3"), ["bach_size=3", "no such field"]),
        (("--config=configs/demo.py", "--config.a.b=3"), ["--config.a.b=3", "no such field"]),
        (("--config=configs/demo.py", "--config.seed=x"), ["--config.seed=x"]),
        (("--config=configs/demo.py", "--confg=x"), ["'confg'"]),
        (("--config=configs/demo.py", "--mode=test"), ["mode", "evaluate"]),
        (("--config=configs/demo.py", "train"), ["'train'"]),
        (
            ("--config=configs/demo.py", "--config.image_size=48"),
            ["image_size = 48", "power of two"],
        ),
        (("--config=configs/demo.py", "--config.variant=gm"), ["variant = 'gm'", "gm_srm"]),
        (
            ("--config=configs/paris.py",),
            ["data/paris/train", "14,900", "data/paris/test", ":runlocal", "configs/demo.py"],
        ),
        (("--config=configs/folder.py",), ["--config.data.train=DIR"]),
        (
            ("--config=configs/demo.py", "--mode=evaluate", "--workdir=runs/never"),
            ["runs/never/inpainting/checkpoints", "train first"],
        ),
        (
            ("--config=configs/demo.py", "--workdir=gs://bucket/run", "--dry_run"),
            ["--workdir=gs://bucket/run is a URL", "mount the bucket"],
        ),
        (
            (
                "--config=configs/demo.py:runlocal",
                "--config.batch_size=16",
                "--config.memory.batch_size=16",
                "--config.memory.path_batch_shrink=4",
                "--config.memory.path_interval=4",
                "--config.accumulation=2",
                "--dry_run",
            ),
            ["memory.batch_size / memory.path_batch_shrink = 4", "4 devices"],
        ),
        (
            ("--config=configs/demo.py:runlocal", "--config.batch_size=6", "--dry_run"),
            ["config.batch_size = 6", "4 devices"],
        ),
        (
            ("--config=configs/demo.py:runlocal,base", "--stage=memory", "--dry_run"),
            ["--stage=memory: variant base", "use one of: all, inpainting"],
        ),
        (
            ("--config=configs/demo.py:runlocal", "--stage=inpainting", "--workdir=runs/never"),
            ["runs/never/memory/checkpoints", "--stage=memory"],
        ),
    ],
)
def test_what_cannot_run_ends_in_one_line(arguments, words, tmp_path):
    arguments = [a.replace("runs/never", str(tmp_path / "never")) for a in arguments]
    words = [w.replace("runs/never", str(tmp_path / "never")) for w in words]
    result = run_main(*arguments)
    lines = [line for line in result.stderr.splitlines() if line.startswith("gmsrm: error: ")]
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]


def test_missing_vgg19_says_what_to_fetch_and_how_to_convert_it():
    result = run_main(
        "--config=configs/paris.py",
        "--config.data.train=bundled:facades/train",
        "--config.data.test=bundled:facades/test",
    )
    assert result.returncode == 2
    for word in ("weights/vgg19.safetensors", "vgg19-dcbb9e9d.pth", "gmsrm convert vgg19 --input"):
        assert word in result.stderr


def test_help_lists_the_flags():
    result = run_main("--help")
    assert result.returncode == 0
    for flag in ("--config", "--workdir", "--mode", "--stage", "--[no]dry_run", "--[no]details"):
        assert flag in result.stdout
