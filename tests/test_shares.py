"""Work in shares: which share a program does, manifests and scores that are joined to one run's."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from exported_networks import exported
from made_workdir import made_workdir
from PIL import Image

from gmsrm_jax.cli import main
from gmsrm_jax.inference.inpainter import Inpainter
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.shares import Share, read_share

ARRAY = {"SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MAX": "8"}
STEPS = ARRAY | {"SLURM_ARRAY_TASK_STEP": "2"}
ALONE = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_COUNT": "1"}
NAMES = [f"{letter}/{number}" for letter in "ab" for number in range(4)] + ["ä"]
COUNT = 3
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("text", "environment", "share"),
    [
        ("0/1", {}, (0, 1)),
        ("7/8", ARRAY | {"SLURM_ARRAY_TASK_ID": "5"}, (7, 8)),
        ("auto", ARRAY | {"SLURM_ARRAY_TASK_ID": "6"}, (2, 3)),
        ("auto", STEPS | {"SLURM_ARRAY_TASK_ID": "6"}, (1, 3)),
        ("auto/8", ALONE, (2, 8)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "0"}, (0, 8)),
    ],
)
def test_which_share(text, environment, share):
    assert read_share(text, environment) == Share(*share)


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("8/8", {}, "8 shares are numbered from 0 to 7"),
        ("1", {}, "write I/N"),
        ("-1/3", {}, "write I/N"),
        ("0/0", {}, "write I/N"),
        ("0/1" + "0" * 23, {}, "give at most 1000000"),
        ("auto", {}, "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set"),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}, "no number of shares; write auto/N"),
        ("auto", ALONE, "an array of one task, does not say"),
        ("auto/2", ALONE, "--shard auto/2 is 2/2 here: 2 shares are numbered from 0 to 1"),
        ("auto", ARRAY | {"SLURM_ARRAY_TASK_ID": "8"}, "4/3 here"),
        ("auto/8", {"JOB_COMPLETION_INDEX": "x"}, "JOB_COMPLETION_INDEX = 'x'"),
    ],
)
def test_which_shares_there_are_not(text, environment, said):
    with pytest.raises(UserError, match=said):
        read_share(text, environment)


def test_a_share_of_names_stays_when_others_come():
    # Decided by SHA-256, whose values are published with it: of "abc" it begins with ba7816bf….
    assert [Share(i, 16).has_name("abc") for i in range(16)].index(True) == 0xBA7816BF8F01CFEA % 16
    assert Share(0, 2).has_name("a\u0308") == Share(0, 2).has_name("ä")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(exported(tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture
def inpaint(weights, tmp_path, monkeypatch, capsys):
    """Runs the command on nine pictures; returns the exit status and what it wrote."""
    monkeypatch.chdir(tmp_path)
    loaded = Inpainter.from_pretrained(weights, device="cpu")
    monkeypatch.setattr(Inpainter, "from_pretrained", lambda *_, **__: loaded)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 255
    Image.fromarray(mask).save("mask.png")
    draw = np.random.default_rng(0)
    for name in NAMES:
        Path("pics", name).parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(f"pics/{name}.png")
    Path("pics/b/2.png").write_bytes(b"no picture")

    def run(output, *options):
        words = ["inpaint", "-i", "pics", "-m", "mask.png", "-o", output, *options]
        status = main([*words, "--checkpoint", weights])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


class matching(str):
    """Equals what it is a part of."""

    def __eq__(self, other):
        return str(self) in other


def told(folder):
    """The manifest without what depends on clock and folder, by picture: threads write it."""
    found = []
    for line in Path(folder, "manifest.jsonl").read_text().splitlines():
        fields = json.loads(line.replace(f"{folder}/", ""))
        found.append({k: v for k, v in fields.items() if k not in ("time", "seconds")})
    return sorted(found, key=lambda line: line["image"])


def parts():
    return sorted(path.name for path in Path("out").glob("manifest*"))


def test_shares_joined_are_one_run(inpaint):
    assert inpaint("whole")[0] == 1  # one is no picture
    statuses = [inpaint("out", "--shard", f"{i}/{COUNT}")[0] for i in range(COUNT)]
    assert sorted(statuses) == [0, 0, 1]
    assert parts() == [f"manifest.{i}-of-{COUNT}.jsonl" for i in range(COUNT)]
    there = statuses.index(0)
    assert inpaint("out", "--shard", f"{there}/3") == (2, matching("outputs exist already"))
    joined = inpaint("out", "--join", str(COUNT))
    assert joined == (1, matching("8 filled, 1 failed, 0 skipped in 3 shares"))
    assert parts() == ["manifest.jsonl"]
    assert told("out") == told("whole")
    for path in Path("whole").rglob("*.png"):
        assert path.read_bytes() == Path("out", path.relative_to("whole")).read_bytes()


def test_shares_that_are_missing_cut_off_or_twice_there_are_named(inpaint):
    for index in range(COUNT):
        inpaint("out", "--shard", f"{index}/{COUNT}")
    part = Path("out/manifest.1-of-3.jsonl")
    whole = part.read_bytes()

    # Died while it wrote its last line.
    *before, last = whole.splitlines(keepends=True)
    part.write_bytes(b"".join(before) + last[:-5])
    lost = json.loads(last)["image"]
    assert inpaint("out", "--join", "3") == (2, matching(f"share 1/3 lacks 1 picture ({lost})"))
    part.unlink()
    assert inpaint("out", "--join", "3") == (
        2,
        matching("share 1/3 is missing (out/manifest.1-of-3.jsonl)"),
    )

    Path("out/manifest.0-of-2.jsonl").write_bytes(whole)
    assert inpaint("out", "--join", "3") == (
        2,
        matching("manifest.0-of-2.jsonl: is of no share of 3"),
    )
    Path("out/manifest.0-of-2.jsonl").unlink()
    part.write_bytes(Path("out/manifest.0-of-3.jsonl").read_bytes())
    assert inpaint("out", "--join", "3") == (2, matching("which is no picture of share 1/3"))
    assert "manifest.jsonl" not in parts()  # after any of these

    part.unlink()
    assert inpaint("out", "--shard", "1/3", "--skip-existing")[0] in (0, 1)
    assert inpaint("out", "--join", "3")[0] == 1
    assert [line["image"] for line in told("out")] == [f"pics/{name}.png" for name in NAMES]


def test_a_share_can_be_empty(inpaint):
    for index in range(40):
        assert inpaint("out", "--shard", f"{index}/40")[0] < 2
    assert inpaint("out", "--join", "40")[0] == 1
    assert len(told("out")) == len(NAMES)


@pytest.mark.slow  # it starts Python five times
def test_a_share_that_was_killed_is_done_again_alone(inpaint, weights):
    for copy in range(20):
        Path(f"pics/more/{copy}.png").parent.mkdir(exist_ok=True)
        Path(f"pics/more/{copy}.png").write_bytes(Path("pics/a/0.png").read_bytes())
    Path("pics/b/2.png").unlink()

    def start(output, *options, **environment):
        words = ["inpaint", "-i", "pics", "-m", "mask.png", "-o", output, "--checkpoint", weights]
        return subprocess.Popen(
            [sys.executable, "-m", "gmsrm_jax.cli", *words, *options],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )

    array = {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "2"}
    shares = [start("out", "--shard", "auto", **array, SLURM_ARRAY_TASK_ID=i) for i in "01"]
    part = Path("out/manifest.1-of-2.jsonl")
    while not part.exists() or not part.stat().st_size:
        assert shares[1].poll() is None, shares[1].communicate()
        time.sleep(0.01)
    shares[1].send_signal(signal.SIGKILL)
    assert [share.wait() for share in shares] == [0, -signal.SIGKILL]
    joined = start("out", "--join", "2")
    assert (joined.communicate()[1], joined.returncode) == (matching("share 1/2 lacks "), 2)
    again = start("out", "--shard", "auto/2", "--skip-existing", JOB_COMPLETION_INDEX="1")
    assert again.wait() == 0
    for command in (("out", "--join", "2"), ("whole",)):
        assert start(*command).wait() == 0
    for line, whole in zip(told("out"), told("whole"), strict=True):
        # Of what the killed one had written without a line about it, no more is known.
        assert line == whole or line["status"] == "skipped"
        assert Path("out", line["outputs"][0]["path"]).read_bytes() == (
            Path("whole", line["outputs"][0]["path"]).read_bytes()
        )
    assert sum(line["status"] == "skipped" for line in told("out")) <= 4  # threads that write


def metrics_of(folder):
    """What metrics.json holds, without what depends on the clock."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert all(metrics["run"].pop(key) > 0 for key in ("seconds", "examples_per_second"))
    return metrics


def end_well(processes):
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert not any(process.returncode for process in processes), said
    return said


@pytest.mark.slow  # it starts Python five times
def test_scores_of_several_processes_are_those_of_one(tmp_path):
    workdir = made_workdir(tmp_path)
    (tmp_path / "config.py").write_text(
        "import pathlib\nfrom made_workdir import made_config\n\n"
        "def get_config(_=None):\n    return made_config(pathlib.Path(__file__).parent)\n"
    )

    def start(module, *words, **environment):
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        return subprocess.Popen(
            [sys.executable, "-m", f"gmsrm_jax.{module}", *map(str, words)],
            env={**os.environ, **paths, "JAX_NUM_CPU_DEVICES": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    words = ["evaluate", "--checkpoint", workdir, "--output"]
    shares = [start("cli", *words, tmp_path / "shares", "--shard", f"{i}/2") for i in range(2)]
    end_well(shares)
    end_well([start("cli", *words, tmp_path / "shares", "--join", 2)])
    shared = metrics_of(tmp_path / "shares")
    for count in (1, 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        cluster = {"GMSRM_COORDINATOR": address, "GMSRM_NUM_PROCESSES": str(count)}
        given = [f"--config={tmp_path}/config.py", f"--workdir={workdir}", "--mode=evaluate"]
        said = end_well(
            [start("main", *given, **cluster, GMSRM_PROCESS_ID=str(i)) for i in range(count)]
        )
        assert ("share 0/2 of 5 pictures" in said[0]) == (count == 2)
        assert metrics_of(workdir / "evaluation") == shared
        for name in ("per_image.csv", "examples.npz", "table_all.md"):
            found = (workdir / "evaluation" / name).read_bytes()
            assert found == (tmp_path / "shares" / name).read_bytes()
        assert not (workdir / "evaluation" / "unfinished").exists()
        (workdir / "evaluation" / "metrics.json").unlink()
