"""A sign of life: of what takes long alone."""

import time

import numpy as np
import pytest
from exported_networks import exported
from made_workdir import made_workdir
from PIL import Image

from gmsrm_jax.cli import main
from gmsrm_jax.runtime import heartbeat


def test_what_takes_long_is_said_again_after_each_doubling_and_short_things_never(
    monkeypatch, caplog
):
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr(heartbeat, "_LOOK_SECONDS", 0.01)
    caplog.set_level("INFO", "gmsrm")
    with heartbeat.heartbeat() as beat:
        for step in range(40):  # longer together than a beat
            beat(f"toy: step {step}")
            time.sleep(0.01)
        assert caplog.messages == []
        beat("toy: compiling")
        time.sleep(0.9)
        beat("")
        time.sleep(0.4)
    assert caplog.messages == ["toy: compiling: for 0:00 now", "toy: compiling: for 0:01 now"]


@pytest.fixture
def soon(monkeypatch):
    """Whatever takes a moment takes long."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(heartbeat, "_LOOK_SECONDS", 0.002)


def test_an_evaluation_says_that_it_compiles(soon, tmp_path, capsys):
    workdir = str(made_workdir(tmp_path))
    assert main(["evaluate", "--checkpoint", workdir, "--shard", "0/2"]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.startswith("evaluation: share 0/2 of 5 pictures")
    assert first.startswith("evaluation: compiling, first batch: for 0:0")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(exported(tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.mark.parametrize("alone", [True, False])
def test_a_filling_says_that_it_compiles_once(soon, weights, tmp_path, monkeypatch, capsys, alone):
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 255
    Image.fromarray(mask).save("m.png")
    for name in "ab":
        (tmp_path / "pics").mkdir(exist_ok=True)
        Image.new("RGB", (40, 40)).save(f"pics/{name}.png")
    image = "pics/a.png" if alone else "pics"
    words = ["-i", image, "-m", "m.png", "-o", "out", "--checkpoint", weights]
    assert main(["inpaint", *words]) == 0
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("pics/a.png: compiling and filling: for 0:0") for line in said)
    assert not any(line.startswith("pics/b.png: compiling") for line in said)
