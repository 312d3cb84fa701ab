"""`gmsrm export`: folders, StableHLO and ONNX, each checked before anything is written."""

import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from exported_networks import SIZE, exported, tiny_network
from jax import export
from PIL import Image
from small_networks import applied, inputs

from gmsrm_jax.cli import main
from gmsrm_jax.export import graphs
from gmsrm_jax.export.parity import check_parity
from gmsrm_jax.export.program import fill_program
from gmsrm_jax.export.stablehlo import to_stablehlo
from gmsrm_jax.methods.gm_srm.network import build_network
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.runtime.errors import UserError


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    return exported(tmp_path / "source", data="garden")


def gmsrm_export(source: pathlib.Path, output: pathlib.Path, *options: str) -> int:
    return main(["export", "--checkpoint", str(source), "--output", str(output), *options])


def files(folder: pathlib.Path) -> list[str]:
    """Names in a folder whose SHA256SUMS holds for every other file in it."""
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(command, cwd=folder, check=True)
    listed = [line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    names = sorted(path.name for path in folder.iterdir())
    assert sorted([*listed, "SHA256SUMS"]) == names
    return names


FOUR = ["README.md", "SHA256SUMS", "config.json", "model.safetensors"]


def test_folder(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    table = tmp_path / "table.md"
    table.write_text("| PSNR |\n| --- |\n| 20 |\n")
    facts = ["--fact", "licence=CC0 = free", "--fact", f"table=@{table}"]
    assert gmsrm_export(source, out, *facts) == 0
    assert files(out) == FOUR
    network = load_pretrained(out)
    assert network.sha256 == tiny_network().sha256
    assert network.sha256 in capsys.readouterr().out
    assert network.facts == {
        "data": "garden",
        "licence": "CC0 = free",
        "table": table.read_text().strip(),
    }
    assert table.read_text() in (out / "README.md").read_text()


def test_float16_says_what_it_changes(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert gmsrm_export(source, out, "--dtype", "float16") == 0
    said = re.search(r"in \[-1, 1\]: (\S+)", capsys.readouterr().out)[1]
    assert 0 < float(said) < 0.05
    assert said in (out / "README.md").read_text()


@pytest.mark.parametrize("variant", ["base", "gm_srm"])
def test_stablehlo_fills_as_the_network(variant: str) -> None:
    network = tiny_network(variant, "mapping")
    image, mask, noise = inputs(3)
    params = network.variables["network"]["params"]
    raw = applied(build_network(network.config), params, image, mask, noise).image
    expected = np.where(mask > 0, np.asarray(raw), image)
    arrays = [image, mask, *noise][: 2 if variant == "base" else None]
    program = fill_program(network)
    read = export.deserialize(bytearray(to_stablehlo(program, None)))
    assert read.platforms == ("cpu", "cuda", "tpu")
    for rows in (slice(0, 1), slice(1, 3)):
        filled = read.call(*(array[rows] for array in arrays))
        np.testing.assert_allclose(filled, expected[rows], atol=1e-4)
    fixed = export.deserialize(bytearray(to_stablehlo(program, 2)))
    assert fixed.in_avals[0].shape == (2, SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="shape"):
        fixed.call(*arrays)


def test_graphs_and_their_snippets(
    source: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    assert gmsrm_export(source, out, "--stablehlo", "--onnx") == 0
    assert files(out) == sorted([*FOUR, "model.onnx", "model.stablehlo"])
    said = capsys.readouterr().out
    card = (out / "README.md").read_text()
    for name in ("model.stablehlo", "model.onnx"):
        line = next(line for line in said.splitlines() if line.startswith(f"`{name}`"))
        assert float(line.rsplit(": ", 1)[1]) <= 1e-3
        assert line in card
    assert load_pretrained(out).sha256 == tiny_network().sha256
    # The card's own words, on a picture: read, fill with either file, write.
    read, onnx, stablehlo, write = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[1:]
    photo = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    hole = np.zeros((SIZE, SIZE), np.uint8)
    hole[8:20, 8:20] = 255
    monkeypatch.chdir(out)
    Image.fromarray(photo).save("photo.png")
    Image.fromarray(hole).save("mask.png")
    fillings = []
    for run in (onnx, stablehlo):
        exec("\n".join((read, run, write)), {})
        fillings.append(np.asarray(Image.open("filled.png")).astype(int))
        np.testing.assert_array_equal(fillings[-1][hole == 0], photo[hole == 0])
    assert np.abs(fillings[0] - fillings[1]).max() <= 1
    assert np.abs(fillings[0] - photo)[hole > 0].max() > 20


@pytest.mark.parametrize("option", ["--stablehlo", "--onnx"])
def test_a_graph_that_fills_otherwise_is_not_written(
    source: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
) -> None:
    expected = graphs.run_network
    monkeypatch.setattr(graphs, "run_network", lambda *args: expected(*args) + 0.01)
    assert gmsrm_export(source, tmp_path / "out", option) == 2
    assert re.search(r"fills otherwise than the network, by up to 0.01", capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("batch", [None, 1, 3, 8])
def test_parity_looks_at_every_picture(batch: int | None) -> None:
    x = np.arange(5 * 4, dtype=np.float32).reshape(5, 2, 2, 1)
    sizes = []

    def run(arrays: list[np.ndarray]) -> np.ndarray:
        sizes.append(len(arrays[0]))
        return 2 * arrays[0]

    assert check_parity("graph", run, [x], 2 * x, batch) == 0
    assert sizes == {None: [1, 4], 1: [1] * 5, 3: [3, 3], 8: [8]}[batch]
    for wrong in (0.002, np.nan):
        for index in range(5):
            expected = 2 * x
            expected[index, 1, 1] += wrong
            with pytest.raises(UserError, match="graph: fills otherwise"):
                check_parity("graph", run, [x], expected, batch)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "0", "--onnx"], "--batch 0: use 1 to 4096"),
        (["--batch", "99999999999999", "--onnx"], "--batch 99999999999999: use 1 to 4096"),
        (["--fact", "table=@~no-1/x.md"], "there is no such home"),
        (["--batch", "2"], "add --onnx or --stablehlo"),
        (["--fact", "licence"], "write NAME=TEXT"),
        (["--fact", "mood=good"], "'mood' is no fact"),
        (["--fact", "table=@nowhere.md"], "nowhere.md cannot be read"),
    ],
)
def test_options_that_are_wrong(
    source: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    assert gmsrm_export(source, tmp_path / "out", *options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_in_the_way(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(tmp_path / "out")
    assert gmsrm_export(source, out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert gmsrm_export(source, out, "--overwrite") == 0
    assert load_pretrained(out).facts == {"data": "garden"}
    # A folder can replace itself.
    assert gmsrm_export(out, out, "--overwrite", "--dtype", "float16") == 0
    assert gmsrm_export(tmp_path / "nothing", tmp_path / "other") == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_packages_are_said_first(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert gmsrm_export(tmp_path / "nothing", tmp_path / "out", "--onnx") == 2
    said = capsys.readouterr().err
    assert f"needs the package {package}: pip install 'gmsrm-jax[export]'" in said


def test_no_tensorflow(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code = (
        "import sys\n"
        "from gmsrm_jax.cli import main\n"
        f"assert main(['export', '--checkpoint', {str(source)!r}, '--stablehlo', '--output',"
        f" {str(tmp_path / 'out')!r}]) == 0\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'clu', 'orbax', 'onnx', 'onnxruntime'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.splitlines()[-1] == "[]"
    assert jax.tree.leaves(load_pretrained(tmp_path / "out").variables)
