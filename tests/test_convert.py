"""`gmsrm convert`: published weights to this project's files, and what is refused."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import re
import sys
import tarfile
import types

import numpy as np
import pytest
import safetensors
from perceptual_weights import backbone_state, heads_state, inception_state

from gmsrm_jax.cli import main
from gmsrm_jax.foreign.convert import read_state_dict
from gmsrm_jax.foreign.converted import read_converted
from gmsrm_jax.foreign.networks import NETWORKS, VGG19
from gmsrm_jax.runtime.errors import UserError

SHORT = ["conv1_1", "conv1_2"]


@pytest.fixture
def states(monkeypatch):
    """What torch would read, by the name of the file."""
    found = {}
    monkeypatch.setattr("gmsrm_jax.foreign.convert.read_state_dict", lambda path: found[path.name])
    return found


def command(folder, kind, *further, output="out.safetensors"):
    """Of a kind; its input files are made, each called as its option."""
    name = {"lpips": "lpips_alex"}.get(kind, kind)
    words = ["convert", kind, "--output", str(folder / output), *further]
    for part in NETWORKS[name].parts:
        path = folder / f"{part.option[2:]}.pth"
        path.write_text(path.name)
        words += [part.option, str(path)]
    return [*words, "--net", "alex"] if kind == "lpips" else words


def failure(capsys, arguments):
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("gmsrm: error: ") and message.count("\n") == 1
    return message


def about(path):
    with safetensors.safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["gmsrm_jax"])


def test_vgg19(tmp_path, capsys, states):
    arrays = states["input.pth"] = backbone_state("vgg19")
    arguments = command(
        tmp_path, "vgg19", "--last-layer", "conv3_1", output="weights/a.safetensors"
    )
    assert main(arguments) == 0
    output = tmp_path / "weights" / "a.safetensors"
    assert str(output) in capsys.readouterr().out
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    params, normalisation = read_converted(output, "vgg19")
    assert normalisation == "torchvision"
    assert list(params) == ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    for index, layer in zip((0, 2, 5, 7, 10), params.values(), strict=True):
        kernel = np.einsum("oihw->hwio", arrays[f"features.{index}.weight"])
        np.testing.assert_array_equal(layer["kernel"], kernel, strict=True)
        np.testing.assert_array_equal(layer["bias"], arrays[f"features.{index}.bias"], strict=True)
    digest = hashlib.sha256(b"input.pth").hexdigest()
    assert about(output)["sources"] == [{"file": "input.pth", "url": "", "sha256": digest}]
    before = output.read_bytes()
    assert main(arguments) == 0 and output.read_bytes() == before
    del arrays["features.10.bias"]
    assert "no features.10.bias in it, only features.0.weight" in failure(capsys, arguments)
    assert output.read_bytes() == before


def test_lpips(tmp_path, capsys, states, monkeypatch):
    states |= {"backbone.pth": backbone_state("lpips_alex"), "heads.pth": heads_state("lpips_alex")}
    arguments, network = command(tmp_path, "lpips"), NETWORKS["lpips_alex"]
    output, parts = tmp_path / "out.safetensors", []
    for part in network.parts:  # neither is the published one; then both are taken for it
        digest = hashlib.sha256(f"{part.option[2:]}.pth".encode()).hexdigest()
        message = failure(capsys, arguments)
        for word in (f"{part.option[2:]}.pth: SHA-256 is {digest}", *part.file, "--any-file"):
            assert word in message
        assert not output.exists()
        file = part.file._replace(sha256=digest)
        parts.append(dataclasses.replace(part, file=file))
        accepted = dataclasses.replace(network, parts=(*parts, *network.parts[len(parts) :]))
        monkeypatch.setitem(NETWORKS, "lpips_alex", accepted)
    assert main(arguments) == 0
    assert [each["url"] for each in about(output)["sources"]] == [
        part.file.url for part in network.parts
    ]
    params, _ = read_converted(output, "lpips_alex")
    for index, i in zip((0, 3, 6, 8, 10), range(5), strict=True):
        kernel = np.einsum("oihw->hwio", states["backbone.pth"][f"features.{index}.weight"])
        np.testing.assert_array_equal(params[f"conv{i + 1}"]["kernel"], kernel)
        head = states["heads.pth"][f"lin{i}.model.1.weight"]
        np.testing.assert_array_equal(params[f"lin{i}"]["kernel"][0, 0, :, 0], head[0, :, 0, 0])
    with pytest.raises(UserError, match=r"weights of lpips_alex, not lpips_vgg; .*--net vgg"):
        read_converted(output, "lpips_vgg")


@pytest.fixture
def two_layers(monkeypatch, states):
    """Two of Inception's 94 layers and their state dict."""
    names, network = ("Conv2d_3b_1x1", "Mixed_6b.branch7x7_2"), NETWORKS["inception"]
    layers = {name: network.layers[name] for name in names}
    part = dataclasses.replace(network.parts[0], layers=layers)
    monkeypatch.setitem(NETWORKS, "inception", dataclasses.replace(network, parts=(part,)))
    state = {key: array for key, array in inception_state().items() if key.startswith(names)}
    states["input.pth"] = state
    return state


def test_inception_folds_the_normalisation(tmp_path, two_layers):
    """For any input x of one window, the layer is normalisation(kernel · x)."""
    assert main(command(tmp_path, "inception", "--any-file")) == 0
    params, _ = read_converted(tmp_path / "out.safetensors", "inception")
    assert [layer["kernel"].shape for layer in params.values()] == [
        (1, 1, 64, 80),
        (1, 7, 128, 128),
    ]
    rng = np.random.default_rng(0)
    for name, layer in params.items():
        kernel = two_layers[f"{name}.conv.weight"].astype(np.float64)
        x = rng.normal(size=kernel.shape[1:])  # [I, kh, kw]
        gain, offset, mean, variance = (
            two_layers[f"{name}.bn.{kind}"].astype(np.float64)
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        plain = np.tensordot(kernel, x, 3)
        expected = (plain - mean) / np.sqrt(variance + 0.001) * gain + offset
        found = np.tensordot(x.transpose(1, 2, 0), layer["kernel"], 3) + layer["bias"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
        assert layer["kernel"].dtype == layer["bias"].dtype == np.float32


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        ("bn.bias", None, r"no Conv2d_3b_1x1\.bn\.bias in it, only Conv2d_3b_1x1\.conv\.weight"),
        (
            "conv.weight",
            np.ones((80, 9, 1, 1), np.float32),
            r"is float32 \(80, 9, 1, 1\) instead of float \(80, 64, 1, 1\); give pt_inception",
        ),
        ("conv.weight", np.ones(80, np.float32), r"is float32 \(80,\) instead of float \(80, 64"),
        ("bn.weight", np.ones(80, np.int64), r"is int64 \(80,\) instead of float \(80,\)"),
        ("bn.running_var", np.full(80, -1, np.float32), "negative variance"),
        ("bn.weight", np.full(80, np.inf, np.float32), "holds NaN, infinity"),
    ],
)
def test_refuses_arrays_that_do_not_fit(tmp_path, capsys, two_layers, key, array, message):
    if array is None:
        del two_layers[f"Conv2d_3b_1x1.{key}"]
    else:
        two_layers[f"Conv2d_3b_1x1.{key}"] = array
    assert re.search(message, failure(capsys, command(tmp_path, "inception", "--any-file")))
    assert not (tmp_path / "out.safetensors").exists()


def test_files_are_named_with_their_option(tmp_path, capsys, states):
    arguments = command(tmp_path, "lpips", "--any-file")
    (tmp_path / "heads.pth").unlink()
    states["backbone.pth"] = backbone_state("lpips_alex")
    assert "check --heads" in failure(capsys, arguments)
    states["input.pth"] = backbone_state("vgg19")
    bad = command(tmp_path, "vgg19", output="out.npz")
    assert "out.npz: the name of converted weights ends in .safetensors" in failure(capsys, bad)
    (tmp_path / "out.safetensors").mkdir()
    short = command(tmp_path, "vgg19", "--last-layer", "conv1_2")
    assert "out.safetensors: cannot be written" in failure(capsys, short)
    named = tmp_path / "vgg19-00000000.pth"
    (tmp_path / "input.pth").rename(named)
    words = [str(named) if word == str(tmp_path / "input.pth") else word for word in short]
    assert "not with the 00000000 in its name" in failure(capsys, words)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "backbone.pth",
        "out.safetensors",
        named.name,
    ]


def test_published_hashes_fit_their_names():
    files = [part.file for network in NETWORKS.values() for part in network.parts]
    for file in files:
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", file.sha256)
        if digits := re.search(r"-([0-9a-f]{8})\.pth", file.name):
            assert file.sha256.startswith(digits[1])
    assert [file.name for file in files].count("vgg19-dcbb9e9d.pth") == 1 and len(files) == 6


def test_torchvision_indices_are_the_published_ones():
    """relu1_1 … relu5_1 are torchvision's features 1, 6, 11, 20 and 29, each behind its conv."""
    names = [f"conv{block}_1" for block in range(1, 6)] + ["conv3_4", "conv5_4"]
    indices = (0, 5, 10, 19, 28, 16, 34)
    assert [VGG19[name].published for name in names] == [f"features.{i}" for i in indices]


@pytest.mark.parametrize("found", [None, types.SimpleNamespace(__version__="2.5.1+cpu")])
def test_missing_or_old_torch_says_how_to_install_it(tmp_path, capsys, monkeypatch, found):
    monkeypatch.setitem(sys.modules, "torch", found)
    message = failure(capsys, command(tmp_path, "vgg19"))
    assert "torch 2.6" in message and 'pip install "gmsrm-jax[convert]"' in message


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_torch_reads_its_files_and_runs_none(tmp_path, capsys, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    arguments = command(tmp_path, "vgg19", "--last-layer", "conv1_2")
    path, state = tmp_path / "input.pth", backbone_state("vgg19")
    tensors = {key: torch.from_numpy(state[key]) for key in list(state)[:4]}
    read = []
    for zipped in (True, False):  # since 1.6, and before: vgg19-dcbb9e9d.pth is of the latter
        torch.save({**tensors, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
        assert main(arguments) == 0
        read.append(read_converted(tmp_path / "out.safetensors", "vgg19")[0])
    for params in read:
        for name, index in zip(SHORT, (0, 2), strict=True):
            kernel = np.einsum("oihw->hwio", state[f"features.{index}.weight"])
            np.testing.assert_array_equal(params[name]["kernel"], kernel, strict=True)
    torch.save({"half": torch.ones(2, dtype=torch.bfloat16), "count": torch.arange(2)}, path)
    found = read_state_dict(path)
    assert found["half"].dtype == np.float32 and found["count"].dtype == np.int64

    def refusal(content, **options):
        torch.save(content, path, **options)
        return failure(capsys, arguments)

    capsys.readouterr()
    for zipped in (True, False):
        message = refusal({"a": Evil()}, _use_new_zipfile_serialization=zipped)
        assert f"{path}: asks to run '{os.name}.mkdir'" in message and "nothing was run" in message
    assert "asks to run 'torch.nn.modules.linear.Linear'" in refusal(torch.nn.Linear(2, 2))
    assert "holds no dictionary of tensors" in refusal(torch.ones(2))
    torch.save(tensors, path)
    content = path.read_bytes()
    for broken in (b"", content[:1], content[:1000], content[:-5], b"<!DOCTYPE", pickle.dumps({})):
        path.write_bytes(broken)
        assert "damaged, or no file of PyTorch's; fetch it again" in failure(capsys, arguments)
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(pickle.dumps({}))
            archive.addfile(entry, io.BytesIO(pickle.dumps({})))
    assert "a .tar file of PyTorch before 0.1.10" in failure(capsys, arguments)
    assert not (tmp_path / "executed").exists()
