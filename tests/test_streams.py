"""What is printed goes to a closed, a full, an ASCII-only or an unread stream: no traceback."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent
LISTED = "-m gmsrm_jax.cli masks show centre:0.25 --size 32"  # is printed
SAID = "-m gmsrm_jax.cli data set --sheet -"  # is logged, then printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("streams")
    (path / "set").mkdir()
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 44, 3), np.uint8)
        Image.fromarray(pixels).save(path / "set" / f"{number}.png")
    return path


def shell(folder, line, buffered, **environment):
    """Runs a line of bash; returns its exit status, what it printed, and its errors."""
    script = f'"{sys.executable}" {line}'
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    variables.pop("PYTHONUNBUFFERED", None)
    if not buffered:
        variables["PYTHONUNBUFFERED"] = "1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(("command", "status"), [(LISTED, 141), (SAID, 0)])
def test_nobody_reads(folder, command, status, buffered):
    assert shell(folder, f"{command} | true", buffered) == (status, "", "")


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("command", [LISTED, SAID])
def test_a_full_disk(folder, command, buffered):
    status, _, errors = shell(folder, f"{command} > /dev/full", buffered)
    said = "gmsrm: error: standard output: cannot be written (No space left on device); make room"
    assert status == 2
    assert errors.startswith(said) and errors.count("\n") == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams(folder, closed):
    status, printed, errors = shell(folder, f"{SAID} {closed}", True)
    assert (status, errors) == (0, "")
    assert ("splits: " in printed) == (">&-" not in closed.split())


def test_what_the_encoding_lacks(folder):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    status, printed, errors = shell(folder, SAID, True, **plain)
    assert (status, errors) == (0, "")
    assert r"most common 24 \xd7 44 x 40" in printed


def test_a_training_that_nobody_reads_of_or_that_has_no_streams(folder):
    line = "-m gmsrm_jax.main --config=absent.py"
    assert shell(folder, f"{line} >&-", True)[0] == 2
    assert shell(folder, f"{line} 2>&-", True) == (2, "", "")
    assert shell(folder, "-m gmsrm_jax.main --help | true", True) == (141, "", "")
