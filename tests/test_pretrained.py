"""Exported networks: what is written is read back, and anything else is refused by name."""

import errno
import functools
import json
import os
import pathlib
import pickle
import random
import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from exported_networks import (
    change_config,
    change_weights,
    exported,
    tiny_config,
    tiny_network,
    tiny_variables,
    write_sums,
)
from flax import traverse_util
from ml_collections import ConfigDict

from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.config.fields import base_config
from gmsrm_jax.config.of_run import remember_config
from gmsrm_jax.methods.base import TrainState
from gmsrm_jax.methods.gm_srm.method import GM_SRM, NETWORK
from gmsrm_jax.methods.gm_srm.network import is_frozen
from gmsrm_jax.methods.variables import parted, variable_shapes, weights_sha256
from gmsrm_jax.networks import folder as reader
from gmsrm_jax.networks import load_pretrained, save_pretrained
from gmsrm_jax.networks.fields import network_config
from gmsrm_jax.networks.folder import pretrained
from gmsrm_jax.runtime.errors import UserError

BIAS = "network/params/output/conv/bias"
FILES = ["README.md", "SHA256SUMS", "config.json", "model.safetensors"]
# The largest weight is below 10, where float16 has steps of 2^-8.
HALF_STEP = 2**-8


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return exported(tmp_path / "exported")


def refusal(folder: pathlib.Path) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(UserError) as caught:
        load_pretrained(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def names(path: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


@pytest.mark.parametrize("variant", ["base", "gm_bm", "gm_csv", "gm_srm"])
@pytest.mark.parametrize("code_source", ["encoder", "mapping"])
def test_round_trip_is_exact(tmp_path: pathlib.Path, variant: str, code_source: str) -> None:
    network = tiny_network(variant, code_source)
    save_pretrained(tmp_path / "new" / "folder", network)
    assert names(tmp_path / "new" / "folder") == FILES
    read = load_pretrained(tmp_path / "new" / "folder")
    jax.tree.map(np.testing.assert_array_equal, read.variables, network.variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(read.variables)} == {np.dtype("float32")}
    assert read.config == network.config
    assert read.sha256 == network.sha256 == weights_sha256(network.variables)


def test_sha256sum_agrees(folder: pathlib.Path) -> None:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["README.md:", "OK", "config.json:", "OK", "model.safetensors:", "OK"]


def test_only_the_network_is_exported(tmp_path: pathlib.Path) -> None:
    config = tiny_config()
    config.batch_size, config.data.train = 77, "/home/somebody/secret"
    save_pretrained(tmp_path / "out", pretrained(config, tiny_variables(), "made up"))
    document = json.loads((tmp_path / "out" / "config.json").read_text())
    assert document["format"] == "gmsrm-jax"
    assert document["format_version"] == 2
    assert document["method"] == "gm_srm"
    assert document["fields"]["image_size"] == 32
    assert set(document["fields"]) == {"image_size", "variant", *GM_SRM.network_fields}
    assert document["facts"] == {}
    assert load_pretrained(tmp_path / "out").config.batch_size == base_config().batch_size


def test_every_field_of_the_model_is_exported() -> None:
    # remat_from trades memory for time in training, and changes nothing else.
    fields = {f"model.{key}" for key in GM_SRM.sections["model"].model_fields} - {
        "model.remat_from"
    }
    assert fields == {field for field in GM_SRM.network_fields if field.startswith("model.")}


def test_float16_rounds_to_nearest(tmp_path: pathlib.Path) -> None:
    network = tiny_network()
    exact = exported(tmp_path / "exact")
    half = exported(tmp_path / "half", "float16")
    read = load_pretrained(half)

    def check(stored: np.ndarray, original: np.ndarray) -> None:
        assert stored.dtype == np.float32
        np.testing.assert_array_equal(stored, original.astype(np.float16).astype(np.float32))
        np.testing.assert_allclose(stored, original, atol=HALF_STEP / 2)

    jax.tree.map(check, read.variables, network.variables)
    assert read.sha256 != network.sha256
    sizes = [(path / "model.safetensors").stat().st_size for path in (half, exact)]
    headers = 20_000
    assert sizes[0] < sizes[1] / 2 + headers
    # What was rounded once is stored as it is.
    save_pretrained(tmp_path / "again", read, "float16")
    assert load_pretrained(tmp_path / "again").sha256 == read.sha256


def test_too_large_for_float16(tmp_path: pathlib.Path) -> None:
    network = tiny_network()
    network.variables["network"]["params"]["encoder"]["stem"]["conv"]["bias"] = np.full(
        4, 1e5, np.float32
    )
    with pytest.raises(UserError, match=r"network/params/encoder/stem/conv/bias .* as float16"):
        save_pretrained(tmp_path / "out", network, "float16")
    assert names(tmp_path) == []
    save_pretrained(tmp_path / "out", network)
    assert load_pretrained(tmp_path / "out").sha256 == weights_sha256(network.variables)
    with pytest.raises(UserError, match="bfloat16"):
        save_pretrained(tmp_path / "other", network, "bfloat16")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_one_changed_bit(folder: pathlib.Path, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    message = refusal(folder)
    assert f"{path}: damaged" in message
    assert "again" in message


def test_an_edited_card_is_no_damage(folder: pathlib.Path) -> None:
    wanted = load_pretrained(folder).sha256
    with (folder / "README.md").open("a") as file:
        file.write("edited on the Hub\n")
    assert load_pretrained(folder).sha256 == wanted
    (folder / "README.md").unlink()
    assert load_pretrained(folder).sha256 == wanted


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("left", [0, 100])
def test_truncated(folder: pathlib.Path, name: str, left: int) -> None:
    os.truncate(folder / name, left)
    assert str(folder / name) in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing(folder: pathlib.Path, name: str) -> None:
    (folder / name).unlink()
    assert f"{folder / name}: cannot be read (No such file" in refusal(folder)
    write_sums(folder)
    assert name in refusal(folder)


@pytest.mark.parametrize(
    "line",
    ["nonsense", "0" * 64, f"{'0' * 63}  a", f"{'0' * 64}  ../config.json", f"{'0' * 64}  a/b"],
)
def test_damaged_sums(folder: pathlib.Path, line: str) -> None:
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{line}\n")
    assert "SHA256SUMS: line 4" in refusal(folder)


def test_sums_that_name_a_file_twice(folder: pathlib.Path) -> None:
    text = (folder / "SHA256SUMS").read_text()
    (folder / "SHA256SUMS").write_text(text + text.splitlines()[0] + "\n")
    assert "SHA256SUMS: line 4" in refusal(folder)


def test_binary_sums(folder: pathlib.Path) -> None:
    (folder / "SHA256SUMS").write_bytes(b"\xff\xfe\x00")
    assert "SHA256SUMS: line 1" in refusal(folder)
    (folder / "SHA256SUMS").write_bytes(b"\n" * (1 << 17))
    assert "SHA256SUMS: has 131072 bytes" in refusal(folder)


def test_something_that_is_no_file(folder: pathlib.Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert f"{folder / 'config.json'}: is no file" in refusal(folder)


def test_more_bytes_than_the_network_has(folder: pathlib.Path) -> None:
    os.truncate(folder / "model.safetensors", 1 << 30)
    assert f"{folder / 'model.safetensors'}: has 1073741824 bytes" in refusal(folder)


class _Bomb:
    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_pickle_is_refused_and_not_run(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ran = tmp_path / "ran"
    bomb = pickle.dumps({"weights": _Bomb(str(ran))})
    pickle.loads(bomb)
    assert ran.exists()
    ran.unlink()
    (folder / "model.safetensors").write_bytes(bomb)
    write_sums(folder)
    assert f"{folder / 'model.safetensors'}: not a safetensors file" in refusal(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.pop(BIAS), "lacks network/params/output/conv/bias"),
        (lambda a: a.update(extra=np.zeros(3, np.float32)), "holds extra, unknown"),
        (lambda a: a.update({BIAS: np.zeros(4, np.float32)}), r"F32 \[4\].*\[3\]"),
        (lambda a: a.update({BIAS: np.zeros(3)}), "network/params/output/conv/bias is F64"),
        (lambda a: a.update({BIAS: np.zeros(3, np.float16)}), "is F16"),
        (lambda a: a.update({BIAS: np.zeros(3, np.int32)}), "is I32"),
        (
            lambda a: a.update({BIAS: np.array([0, np.nan, 0], np.float32)}),
            "network/params/output/conv/bias holds NaN",
        ),
    ],
)
def test_wrong_tensors(folder: pathlib.Path, change: object, said: str) -> None:
    change_weights(folder, change)
    with pytest.raises(UserError, match=f"model.safetensors: .*{said}"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format="stable-diffusion"), "not a network of this program"),
        (lambda d: d.pop("format"), "not a network of this program"),
        (lambda d: d.update(format_version=3), "format_version 3, and .* reads 1 and 2"),
        (lambda d: d.pop("format_version"), "format_version None"),
        (lambda d: d.update(dtype="float64"), "dtype 'float64'"),
        (lambda d: d.update(method="lama"), "the method 'lama' is unknown .* reads: gm_srm"),
        (lambda d: d.update(method="telea"), "the method 'telea' is unknown"),
        (lambda d: d.update(method=["gm_srm"]), "the method .* is unknown"),
        (lambda d: d.pop("method"), "the method 'None' is unknown"),
        (lambda d: d.update(facts=["a"]), "facts"),
        (lambda d: d.update(facts={"mood": "good"}), "mood"),
        (lambda d: d.update(fields=3), "no fields"),
        (lambda d: d["fields"].pop("variant"), "lacks variant"),
        (lambda d: d["fields"].update(depth=3), "unknown depth"),
        (
            lambda d: d["fields"].update({"image_size": 32.0}),
            "image_size = 32.0 is not of type int",
        ),
        (lambda d: d["fields"].update({"image_size": True}), "image_size = True"),
        (lambda d: d["fields"].update({"image_size": 33}), "image_size = 33"),
        (lambda d: d["fields"].update({"image_size": 1 << 40}), "= 1099511627776; use 32 to 4096"),
        (lambda d: d["fields"].update({"model.code_dim": 1 << 40}), r"code_dim = 1099511627776; "),
        (lambda d: d["fields"].update({"image_size": {}}), "config.image_size"),
        (lambda d: d["fields"].update({"model.code_dim": -1}), "model.code_dim = -1; .* above 0"),
        (lambda d: d["fields"].update({"model.code_dim": [8]}), r"model.code_dim = \(8,\) is not"),
        (lambda d: d["fields"].update({"model.code_dim": float("nan")}), "code_dim = nan"),
        (lambda d: d["fields"].update({"model.stem_skip": 1}), "stem_skip = 1 is not of type bool"),
        (lambda d: d["fields"].update({"model.stem_skip": None}), "stem_skip = None"),
        (lambda d: d["fields"].update({"memory.code_source": "vae"}), "use one of: encoder, map"),
        (lambda d: d["fields"].update({"memory.batch_size": 8}), "unknown memory.batch_size"),
        (lambda d: d["fields"].update({"variant": "gm_xl"}), "variant = 'gm_xl'"),
        (lambda d: d["fields"].update({"variant": "base"}), "unknown to config.json"),
    ],
)
def test_wrong_config(folder: pathlib.Path, change: object, said: str) -> None:
    change_config(folder, change)
    with pytest.raises(UserError, match=said) as caught:
        load_pretrained(folder)
    assert str(folder) in str(caught.value)


def as_version_1(folder: pathlib.Path) -> None:
    """Writes a folder as format version 1 had it: one network, one method, neither named."""

    def config(document: dict[str, Any]) -> None:
        del document["method"]
        document["format_version"], document["network"] = 1, document.pop("fields")
        assert document["network"].pop("model.fusion_rescale") is False

    def weights(arrays: dict[str, np.ndarray]) -> None:
        for name in list(arrays):
            arrays[name.removeprefix("network/params/")] = arrays.pop(name)

    change_config(folder, config)
    change_weights(folder, weights)


def test_format_version_1_is_read(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    as_version_1(folder)
    read = load_pretrained(folder)
    jax.tree.map(np.testing.assert_array_equal, read.variables, tiny_variables())
    # That version had no such field and always rescaled; its cards show the hash of weights alone.
    assert read.config.model.fusion_rescale
    assert read.config.model.code_dim == tiny_config().model.code_dim
    assert read.sha256 == weights_sha256(tiny_variables()[NETWORK]["params"])
    save_pretrained(tmp_path / "again", read)
    again = load_pretrained(tmp_path / "again")
    assert again.config == read.config
    jax.tree.map(np.testing.assert_array_equal, again.variables, read.variables)
    assert json.loads((tmp_path / "again" / "config.json").read_text())["format_version"] == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(network=3), "no fields"),
        (lambda d: d["network"].pop("variant"), "lacks variant"),
        (lambda d: d["network"].update(depth=3), "unknown depth"),
        (lambda d: d["network"].update({"image_size": 33}), "image_size = 33; use a power of two"),
        (lambda d: d["network"].update({"variant": "base"}), "unknown to config.json"),
    ],
)
def test_wrong_config_of_version_1(folder: pathlib.Path, change: object, said: str) -> None:
    as_version_1(folder)
    change_config(folder, change)
    assert re.search(said, refusal(folder))


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "null", "\ud83d"])
def test_config_that_is_no_document(folder: pathlib.Path, text: str) -> None:
    (folder / "config.json").write_text(text, errors="replace")
    write_sums(folder)
    assert str(folder / "config.json") in refusal(folder)


def test_damage_of_every_kind_is_one_line(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that somebody changed, sums and all: they are read or refused, and nothing else."""
    shapes = functools.cache(
        lambda text: variable_shapes(GM_SRM, network_config(ConfigDict(json.loads(text))))
    )
    monkeypatch.setattr(reader, "variable_shapes", lambda method, config: shapes(config.to_json()))
    rng, outcomes = random.Random(0), set()
    whole = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    header = 8 + int.from_bytes(whole["model.safetensors"][:8], "little")
    for _ in range(300):
        name = rng.choice(sorted(whole))
        data = bytearray(whole[name])
        for _ in range(rng.choice([1, 1, 2, 8])):
            place = rng.randrange(min(rng.choice([8, header, len(data)]), len(data)))
            data[place] = rng.choice([data[place] ^ 1 << rng.randrange(8), *b'019[]{},":-e'])
        for other, contents in whole.items():
            (folder / other).write_bytes(data if other == name else contents)
        write_sums(folder)
        try:
            load_pretrained(folder)
            outcomes.add("read")
        except UserError as error:
            assert "\n" not in str(error)
            outcomes.add(name)
    assert outcomes == {"read", "config.json", "model.safetensors"}


def test_overwriting(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before = (folder / "SHA256SUMS").read_bytes()
    network = tiny_network("base")
    with pytest.raises(UserError, match="exists already"):
        save_pretrained(folder, network)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes.txt"):
        save_pretrained(folder, network, overwrite=True)
    assert (folder / "SHA256SUMS").read_bytes() == before
    (folder / "notes.txt").unlink()
    save_pretrained(folder, network, overwrite=True)
    assert load_pretrained(folder).config.variant == "base"
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        save_pretrained(file, network, overwrite=True)
    (tmp_path / "empty").mkdir()
    save_pretrained(tmp_path / "empty", network)
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds README.md"):
        save_pretrained(tmp_path / "others", network, overwrite=True)
    assert (tmp_path / "others" / "README.md").read_text() == "mine"
    assert names(tmp_path) == ["empty", "exported", "file", "others"]


def test_a_full_disk_leaves_what_was_there(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pathlib.Path.write_bytes

    def full(path: pathlib.Path, data: bytes) -> int:
        if path.name == "model.safetensors":
            write(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    before = load_pretrained(folder).sha256
    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        save_pretrained(folder, tiny_network("base"), overwrite=True)
    assert names(tmp_path) == ["exported"]
    assert load_pretrained(folder).sha256 == before


def test_no_such_network(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no such folder; name one that" in refusal(tmp_path / "nothing")
    assert "a folder without SHA256SUMS" in refusal(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "a file" in refusal(tmp_path / "file")


def made_workdir(workdir: pathlib.Path) -> tuple[dict, dict]:
    """A workdir with one checkpoint of stage 2; returns its averaged and its frozen weights."""
    config = tiny_config()
    config.data.train = "/home/somebody/secret/garden"
    params = tiny_variables()[NETWORK]["params"]
    trained, frozen = ({"params": part} for part in parted(params, lambda p: is_frozen(p, False)))
    other = jax.tree.map(jnp.zeros_like, trained)
    state = TrainState(
        step=jnp.asarray(7, jnp.int32),
        variables={NETWORK: other},
        average={NETWORK: trained},
        optimizer={},
        kept={NETWORK: frozen},
        extra={},
    )
    checkpoints = Checkpoints(checkpoint_folder(workdir, "inpainting"))
    checkpoints.save(state)
    checkpoints.finish()
    remember_config(config, workdir, "fingerprint")
    return trained["params"], frozen["params"]


def test_a_workdir_gives_averaged_and_frozen_weights(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workdir = pathlib.Path("runs/demo")
    trained, frozen = made_workdir(workdir)
    network = load_pretrained(workdir)
    jax.tree.map(
        np.testing.assert_array_equal, network.variables[NETWORK]["params"], {**trained, **frozen}
    )
    assert network.source == "runs/demo (step 7)"
    assert network.facts["steps"] == "inpainting 7"
    assert network.facts["data"] == "garden"
    save_pretrained("out", network)
    assert load_pretrained("out").sha256 == network.sha256
    assert "somebody" not in "".join(
        path.read_text(errors="ignore") for path in pathlib.Path("out").iterdir()
    )


def test_the_bundled_name(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_pretrained().sha256 == load_pretrained("photos-128").sha256
    network = load_pretrained("facades-128")
    assert network.config.image_size == 128
    assert capsys.readouterr().err == ""
    own = exported(tmp_path / "facades-128")
    assert load_pretrained("./facades-128").sha256 == load_pretrained(own).sha256
    assert capsys.readouterr().err == ""
    assert load_pretrained("facades-128").sha256 == network.sha256
    assert "write ./facades-128" in capsys.readouterr().err


def test_reading_needs_no_tensorflow_and_no_checkpoints(folder: pathlib.Path) -> None:
    code = (
        "import sys\n"
        "from gmsrm_jax.networks import load_pretrained\n"
        f"load_pretrained({str(folder)!r})\n"
        "load_pretrained()\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'clu', 'orbax', 'onnx', 'huggingface_hub'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "[]"


def test_biases_of_an_earlier_version_before_instance_norms_are_left_out(tmp_path):
    """They had no effect, and the card's sum is of what is stored."""
    folder = exported(tmp_path / "folder")
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    for name in ("encoder/down_8", "encoder/block_8/conv", "decoder_8/up", "decoder_8/block/conv"):
        kernel = arrays[f"network/params/{name}/conv/kernel"]
        arrays[f"network/params/{name}/conv/bias"] = np.ones(kernel.shape[-1], np.float32)
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    write_sums(folder)
    network = load_pretrained(folder)
    jax.tree.map(np.testing.assert_array_equal, network.variables, tiny_variables())
    nested = traverse_util.unflatten_dict(arrays, sep="/")
    assert network.sha256 == weights_sha256(nested)

    arrays["network/params/encoder/stem/conv/other"] = np.ones(3, np.float32)
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    write_sums(folder)
    with pytest.raises(UserError, match="holds network/params/encoder/stem/conv/other, unknown"):
        load_pretrained(folder)
