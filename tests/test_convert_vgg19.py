"""`gmsrm convert vgg19`: torchvision's files in both formats, and NumPy files of the original."""

import json

import numpy as np
import pytest
from torch_writers import WRITERS, write_arrays, write_zip

from gmsrm_jax.assets import asset_path
from gmsrm_jax.cli import main
from gmsrm_jax.foreign.vgg19 import CONVOLUTIONS, convert_vgg19, read_vgg19
from gmsrm_jax.nn.vgg import load_vgg19
from gmsrm_jax.runtime.errors import UserError

BUNDLED = asset_path("vgg19/vgg19_conv1_1_to_conv3_1.npz")


def vgg19_state(last):
    """Random weights with VGG-19's real shapes, OIHW under torchvision's names, up to `last`."""
    rng = np.random.default_rng(0)
    names = list(CONVOLUTIONS)
    arrays = {}
    for name in names[: names.index(last) + 1]:
        layer = CONVOLUTIONS[name]
        prefix = f"features.{layer.torchvision_index}"
        kernel = rng.normal(size=(layer.outputs, layer.inputs, 3, 3))
        arrays[f"{prefix}.weight"] = kernel.astype(np.float32)
        arrays[f"{prefix}.bias"] = rng.normal(size=layer.outputs).astype(np.float32)
    arrays["classifier.0.weight"] = np.ones((2, 3), np.float32)
    return arrays


def test_torchvision_indices_are_the_published_ones():
    """relu1_1 … relu5_1 are torchvision's features 1, 6, 11, 20 and 29, each behind its conv."""
    taps = [CONVOLUTIONS[f"conv{block}_1"].torchvision_index for block in range(1, 6)]
    assert taps == [0, 5, 10, 19, 28]
    assert [CONVOLUTIONS[name].torchvision_index for name in ("conv3_4", "conv5_4")] == [16, 34]


@pytest.mark.parametrize("writer", WRITERS)
def test_converts_torchvision_files(tmp_path, capsys, writer):
    arrays = vgg19_state("conv3_1")
    write_arrays(writer, tmp_path / "vgg19.pth", arrays)
    output = tmp_path / "weights" / "vgg19.npz"
    command = ["convert", "vgg19", "--input", str(tmp_path / "vgg19.pth"), "--output", str(output)]
    assert main([*command, "--last-layer", "conv3_1"]) == 0
    assert str(output) in capsys.readouterr().out
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    weights = load_vgg19(str(output), ["relu3_1"])
    assert weights.source == "torchvision"
    assert list(weights.params) == ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    for index, name in zip((0, 2, 5, 7, 10), weights.params, strict=True):
        layer = weights.params[name]
        kernel = arrays[f"features.{index}.weight"]
        np.testing.assert_array_equal(layer["kernel"], np.einsum("oihw->hwio", kernel))
        np.testing.assert_array_equal(layer["bias"], arrays[f"features.{index}.bias"])
    with np.load(output) as file:
        assert not [key for key in file.files if "classifier" in key]

    before = output.read_bytes()
    assert main(command) == 2  # up to conv5_1, which the file does not have
    assert "no conv3_2 in it, only conv1_1, conv1_2" in capsys.readouterr().err
    assert output.read_bytes() == before


def test_refuses_other_networks_and_damaged_downloads(tmp_path, capsys):
    path, output = tmp_path / "vgg19-00000000.pth", tmp_path / "out.npz"
    arrays = vgg19_state("conv1_2")

    def error(name, last_layer="conv1_2"):
        arguments = ["--input", str(name), "--output", str(output), "--last-layer", last_layer]
        assert main(["convert", "vgg19", *arguments]) == 2
        message = capsys.readouterr().err
        assert message.startswith("gmsrm: error: ") and message.count("\n") == 1
        return message

    write_arrays(write_zip, path, arrays)
    assert "not with the 00000000 in its name" in error(path)
    path = path.rename(tmp_path / "a.pth")
    arrays["features.2.weight"] = np.ones((64, 32, 3, 3), np.float32)
    write_arrays(write_zip, path, arrays)
    assert "conv1_2 kernel is float32 (3, 3, 32, 64)" in error(path)
    arrays = vgg19_state("conv1_2")
    arrays["features.2.bias"][5] = np.nan
    write_arrays(write_zip, path, arrays)
    assert "conv1_2 bias holds NaN" in error(path)
    assert "No such file" in error(tmp_path / "none.pth")
    path.rename(tmp_path / "a.bin")
    assert "'.bin'" in error(tmp_path / "a.bin")
    assert not output.exists()
    with pytest.raises(SystemExit, match="2"):
        main(["convert", "vgg19", "--inp", "a", "--outp", "b"])


@pytest.mark.parametrize(
    "names",
    [
        "conv{0}_{1}/kernel conv{0}_{1}/bias",
        "block{0}_conv{1}/kernel block{0}_conv{1}/bias",
        "block{0}_conv{1}_kernel block{0}_conv{1}_bias",
        "block{0}_conv{1}/block{0}_conv{1}_W_1:0 block{0}_conv{1}/block{0}_conv{1}_b_1:0",
        "vgg19/block{0}_conv{1}/kernel:0 vgg19/block{0}_conv{1}/bias:0",
    ],
)
def test_converts_numpy_files_of_the_original(tmp_path, names):
    params, _ = read_vgg19(BUNDLED)
    arrays = {"fc1/kernel": np.ones((2, 2), np.float32)}
    for name in ("conv1_1", "conv1_2"):
        kernel, bias = names.format(*name.removeprefix("conv").split("_")).split()
        arrays[kernel] = params[name]["kernel"].astype(np.float64)
        arrays[bias] = params[name]["bias"].astype(np.float64)
    np.savez(tmp_path / "in.npz", **arrays)
    convert_vgg19(tmp_path / "in.npz", tmp_path / "out.npz", "conv1_2")
    found, normalisation = read_vgg19(tmp_path / "out.npz")
    assert normalisation == "caffe" and list(found) == ["conv1_1", "conv1_2"]
    for name, layer in found.items():
        for kind, array in layer.items():
            np.testing.assert_array_equal(array, params[name][kind], strict=True)


def test_refuses_two_arrays_for_one_layer(tmp_path):
    kernel = np.ones((3, 3, 3, 64), np.float32)
    np.savez(tmp_path / "in.npz", **{"conv1_1/kernel": kernel, "block1_conv1/kernel": kernel})
    with pytest.raises(UserError, match="two arrays for one kernel"):
        convert_vgg19(tmp_path / "in.npz", tmp_path / "out.npz", "conv1_1")


def test_shortening_keeps_the_normalisation(tmp_path):
    """A file made from torchvision's must not come out labelled as Caffe's: both are .npz."""
    write_arrays(write_zip, tmp_path / "a.pth", vgg19_state("conv1_2"))
    convert_vgg19(tmp_path / "a.pth", tmp_path / "a.npz", "conv1_2")
    convert_vgg19(tmp_path / "a.npz", tmp_path / "b.npz", "conv1_1")
    long, short = read_vgg19(tmp_path / "a.npz"), read_vgg19(tmp_path / "b.npz")
    assert long[1] == short[1] == "torchvision"
    assert list(long[0]) == ["conv1_1", "conv1_2"] and list(short[0]) == ["conv1_1"]


def test_converts_the_same_to_the_same_bytes_and_records_its_source(tmp_path):
    for name in ("a.npz", "b.npz"):
        convert_vgg19(BUNDLED, tmp_path / name, "conv2_1")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as file:
        metadata = json.loads(str(file["metadata"]))
    assert metadata["source_file"] == BUNDLED.name
    assert len(metadata["source_sha256"]) == len(metadata["sha256"]) == 64


def test_output_that_cannot_be_written_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"ends in \.npz"):
        convert_vgg19(BUNDLED, tmp_path / "out.bin", "conv1_1")
    (tmp_path / "taken.npz").mkdir()
    with pytest.raises(UserError, match=r"taken\.npz: cannot be written"):
        convert_vgg19(BUNDLED, tmp_path / "taken.npz", "conv1_1")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        convert_vgg19(BUNDLED, tmp_path / "file" / "out.npz", "conv1_1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.npz"]
