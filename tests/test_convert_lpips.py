"""`gmsrm convert lpips`: torchvision's backbones with LPIPS's heads."""

import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
from perceptual_weights import backbone_state, heads_state
from torch_writers import WRITERS, write_arrays, write_zip

from gmsrm_jax.cli import main
from gmsrm_jax.foreign import lpips as format_of_lpips
from gmsrm_jax.foreign.lpips import BACKBONE_FILES, HEAD_FILES, read_lpips
from gmsrm_jax.metrics.lpips import load_lpips


def command(folder, *further, net="alex", output="out.npz"):
    paths = {"backbone": "backbone.pth", "heads": "heads.pth", "output": output}
    options = [word for key, name in paths.items() for word in (f"--{key}", str(folder / name))]
    return ["convert", "lpips", "--net", net, *options, *further]


def write_files(folder, net="alex", writer=write_zip):
    write_arrays(writer, folder / "backbone.pth", backbone_state(net))
    write_arrays(writer, folder / "heads.pth", heads_state(net))


@pytest.mark.parametrize("writer", WRITERS)
def test_converts_both_formats(tmp_path, capsys, writer):
    write_files(tmp_path, writer=writer)
    assert main(command(tmp_path, "--any-file", output="weights/alex.npz")) == 0
    output = tmp_path / "weights" / "alex.npz"
    assert str(output) in capsys.readouterr().out
    params = load_lpips(str(output), "alex").params
    assert list(params) == [f"conv{i}" for i in range(1, 6)] + [f"lin{i}" for i in range(5)]
    backbone, heads = backbone_state("alex"), heads_state("alex")
    for index, i in zip((0, 3, 6, 8, 10), range(5), strict=True):
        kernel = np.einsum("oihw->hwio", backbone[f"features.{index}.weight"])
        np.testing.assert_array_equal(params[f"conv{i + 1}"]["kernel"], kernel)
        bias = backbone[f"features.{index}.bias"]
        np.testing.assert_array_equal(params[f"conv{i + 1}"]["bias"], bias)
        head = heads[f"lin{i}.model.1.weight"]
        np.testing.assert_array_equal(params[f"lin{i}"]["kernel"][0, 0, :, 0], head[0, :, 0, 0])
    with np.load(output) as file:
        metadata = json.loads(str(file["metadata"]))
    assert metadata["net"] == "alex" and metadata["heads_file"] == "heads.pth"
    for role in ("backbone", "heads"):
        digest = hashlib.sha256((tmp_path / f"{role}.pth").read_bytes()).hexdigest()
        assert metadata[f"{role}_sha256"] == digest


def failure(capsys, arguments):
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("gmsrm: error: ") and message.count("\n") == 1
    return message


def test_refuses_other_files_than_the_published_ones(tmp_path, capsys, monkeypatch):
    write_files(tmp_path)
    digest = hashlib.sha256((tmp_path / "backbone.pth").read_bytes()).hexdigest()
    expected = BACKBONE_FILES["alex"]
    message = failure(capsys, command(tmp_path))
    for word in (str(tmp_path / "backbone.pth"), digest, expected.sha256, expected.url):
        assert word in message
    assert "--any-file" in message
    accepted = dataclasses.replace(expected, sha256=digest)
    monkeypatch.setitem(format_of_lpips.BACKBONE_FILES, "alex", accepted)
    message = failure(capsys, command(tmp_path))
    assert "heads.pth: SHA-256 is" in message and HEAD_FILES["alex"].url in message
    assert not (tmp_path / "out.npz").exists()
    digest = hashlib.sha256((tmp_path / "heads.pth").read_bytes()).hexdigest()
    accepted = dataclasses.replace(HEAD_FILES["alex"], sha256=digest)
    monkeypatch.setitem(format_of_lpips.HEAD_FILES, "alex", accepted)
    assert main(command(tmp_path)) == 0
    read_lpips(tmp_path / "out.npz", "alex")


def test_published_hashes_fit_their_names():
    """torchvision's names carry the first eight digits."""
    for file in BACKBONE_FILES.values():
        assert file.sha256.startswith(re.search(r"-([0-9a-f]{8})\.pth", file.name)[1])
    for file in (*BACKBONE_FILES.values(), *HEAD_FILES.values()):
        assert re.fullmatch("[0-9a-f]{64}", file.sha256) and file.url.endswith(file.name)


def test_refuses_arrays_that_do_not_fit(tmp_path, capsys):
    def error(change, role="backbone"):
        states = {"backbone": backbone_state("alex"), "heads": heads_state("alex")}
        change(states[role])
        for name, state in states.items():
            write_arrays(write_zip, tmp_path / f"{name}.pth", state)
        return failure(capsys, command(tmp_path, "--any-file"))

    assert "no features.3.weight" in error(lambda state: state.pop("features.3.weight"))
    small = np.ones((192, 64, 3, 3), np.float32)
    message = error(lambda state: state.update({"features.3.weight": small}))
    assert "float32 (3, 3, 64, 192) (HWIO) instead of float (5, 5, 64, 192)" in message
    nothing = np.full(64, np.nan, np.float32)
    assert "holds NaN" in error(lambda state: state.update({"features.0.bias": nothing}))
    head = "lin2.model.1.weight"
    assert f"no {head}" in error(lambda state: state.pop(head), "heads")
    assert "version 0.1" in error(
        lambda state: state.update({head: np.ones((1, 2, 1, 1), np.float32)}), "heads"
    )
    assert not (tmp_path / "out.npz").exists()


def test_heads_of_the_other_network_are_refused(tmp_path, capsys):
    write_files(tmp_path)
    write_arrays(write_zip, tmp_path / "heads.pth", heads_state("vgg"))
    message = failure(capsys, command(tmp_path, "--any-file"))
    assert "lin1.model.1.weight is float32 (1, 1, 128, 1)" in message
    assert "give LPIPS's alex.pth" in message


def test_missing_files_and_bad_outputs_name_their_option(tmp_path, capsys):
    assert "check --backbone" in failure(capsys, command(tmp_path))
    write_files(tmp_path)
    (tmp_path / "heads.pth").unlink()
    assert "check --heads" in failure(capsys, command(tmp_path, "--any-file"))
    assert "ends in .npz" in failure(capsys, command(tmp_path, output="out.bin"))


def test_changed_files_are_refused_with_their_command(tmp_path, capsys):
    write_files(tmp_path)
    assert main(command(tmp_path, "--any-file")) == 0
    path = tmp_path / "out.npz"
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    arrays["lin0/kernel"] = arrays["lin0/kernel"] + 1
    np.savez(path, **arrays)
    with pytest.raises(format_of_lpips.UserError, match="damaged, SHA-256") as error:
        load_lpips(str(path), "alex")
    assert "gmsrm convert lpips --net alex" in str(error.value)
