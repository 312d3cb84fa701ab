"""`gmsrm convert inception`: pytorch-fid's file, batch normalisation folded in."""

import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
from perceptual_weights import inception_state
from torch_writers import WRITERS, write_arrays, write_zip

from gmsrm_jax.cli import main
from gmsrm_jax.foreign import inception as format_of_inception
from gmsrm_jax.foreign.inception import CONVOLUTIONS, PUBLISHED_FILE, read_inception
from gmsrm_jax.runtime.errors import UserError

# Two layers stand for all 94, whose file has 87 MB; test_inception.py converts that once.
LAYERS = ("Conv2d_3b_1x1", "Mixed_6b.branch7x7_2")


@pytest.fixture(autouse=True)
def two_layers(monkeypatch):
    table = {name: CONVOLUTIONS[name] for name in LAYERS}
    monkeypatch.setattr(format_of_inception, "CONVOLUTIONS", table)


@pytest.fixture(scope="module")
def full_state():
    return inception_state()


@pytest.fixture
def state(full_state):
    return {name: array for name, array in full_state.items() if name.startswith(LAYERS)}


def command(folder, *further):
    paths = ["--input", str(folder / "in.pth"), "--output", str(folder / "out.npz")]
    return ["convert", "inception", *paths, *further]


def failure(capsys, arguments):
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("gmsrm: error: ") and message.count("\n") == 1
    return message


@pytest.mark.parametrize("writer", WRITERS)
def test_folds_the_normalisation(tmp_path, capsys, state, writer):
    """For any input x of a 1×1 window, the layer is normalisation(kernel · x)."""
    write_arrays(writer, tmp_path / "in.pth", state)
    assert main(command(tmp_path, "--any-file")) == 0
    assert str(tmp_path / "out.npz") in capsys.readouterr().out
    params = read_inception(tmp_path / "out.npz")
    assert list(params) == list(LAYERS)
    assert params[LAYERS[1]]["kernel"].shape == (1, 7, 128, 128)
    rng = np.random.default_rng(0)
    for name in LAYERS:
        kernel = state[f"{name}.conv.weight"].astype(np.float64)
        x = rng.normal(size=kernel.shape[1:])  # [I, kh, kw], one window
        gain, offset, mean, variance = (
            state[f"{name}.bn.{kind}"].astype(np.float64)
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        plain = np.tensordot(kernel, x, 3)
        expected = (plain - mean) / np.sqrt(variance + 0.001) * gain + offset
        layer = params[name]
        found = np.tensordot(x.transpose(1, 2, 0), layer["kernel"], 3) + layer["bias"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
        assert layer["kernel"].dtype == layer["bias"].dtype == np.float32


def test_refuses_another_file_than_the_published_one(tmp_path, capsys, state, monkeypatch):
    write_arrays(write_zip, tmp_path / "in.pth", state)
    digest = hashlib.sha256((tmp_path / "in.pth").read_bytes()).hexdigest()
    message = failure(capsys, command(tmp_path))
    for word in (digest, PUBLISHED_FILE.sha256, PUBLISHED_FILE.url, "--any-file"):
        assert word in message
    assert not (tmp_path / "out.npz").exists()
    accepted = dataclasses.replace(PUBLISHED_FILE, sha256=digest)
    monkeypatch.setattr(format_of_inception, "PUBLISHED_FILE", accepted)
    assert main(command(tmp_path)) == 0
    with np.load(tmp_path / "out.npz") as file:
        metadata = json.loads(str(file["metadata"]))
    assert metadata["source_file"] == "in.pth" and metadata["source_sha256"] == digest


def test_published_hash_fits_its_name():
    digits = re.search(r"-([0-9a-f]{8})\.pth", PUBLISHED_FILE.name)[1]
    assert PUBLISHED_FILE.sha256.startswith(digits) and len(PUBLISHED_FILE.sha256) == 64
    assert PUBLISHED_FILE.url.endswith(PUBLISHED_FILE.name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("Conv2d_3b_1x1.bn.bias"), "no Conv2d_3b_1x1.bn.bias in it"),
        (
            lambda s: s.update({"Conv2d_3b_1x1.conv.weight": np.ones((80, 9, 1, 1), np.float32)}),
            r"\(1, 1, 9, 80\) \(HWIO\) instead of float \(1, 1, 64, 80\); give pytorch-fid's",
        ),
        (
            lambda s: s.update({"Conv2d_3b_1x1.bn.running_var": np.full(80, -1, np.float32)}),
            "running_var is negative",
        ),
        (
            lambda s: s.update({"Conv2d_3b_1x1.bn.weight": np.full(80, np.inf, np.float32)}),
            "holds NaN or infinity",
        ),
    ],
)
def test_refuses_arrays_that_do_not_fit(tmp_path, capsys, state, change, message):
    change(state)
    write_arrays(write_zip, tmp_path / "in.pth", state)
    assert re.search(message, failure(capsys, command(tmp_path, "--any-file")))
    assert not (tmp_path / "out.npz").exists()


def test_damaged_files_are_refused_with_their_command(tmp_path, state):
    write_arrays(write_zip, tmp_path / "in.pth", state)
    assert main(command(tmp_path, "--any-file")) == 0
    path = tmp_path / "out.npz"
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    arrays[f"{LAYERS[0]}/bias"][0] += 1
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="damaged, SHA-256") as error:
        read_inception(path)
    assert f"gmsrm convert inception --input {PUBLISHED_FILE.name}" in str(error.value)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged or not"):
        read_inception(path)
