"""`gmsrm doctor`: what it prints and returns for good, broken and missing things."""

import configparser
import hashlib
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from gmsrm_jax.assets import BUNDLED_NETWORKS
from gmsrm_jax.checkpoints.steps import MANIFEST
from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.cli import main
from gmsrm_jax.commands import doctor
from gmsrm_jax.methods.base import TrainState

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def workdir(tmp_path):
    """Two stages with two checkpoints each."""
    for stage in ("memory", "inpainting"):
        checkpoints = Checkpoints(checkpoint_folder(tmp_path, stage))
        for step in (4, 8):
            weights = {"w": jnp.arange(3.0) + step}
            state = TrainState(jnp.asarray(step, jnp.int32), weights, weights, {}, {}, {})
            checkpoints.save(state)
        checkpoints.finish()
    return tmp_path


def verify(path, capsys):
    status = main(["doctor", "--checkpoint", str(path)])
    return status, capsys.readouterr()


def test_whole_checkpoints_are_good_by_any_of_their_folders(workdir, capsys):
    steps = workdir / "memory" / "checkpoints"
    for path, count in ((workdir, 4), (steps.parent, 2), (steps, 2), (steps / "8", 1)):
        status, printed = verify(path, capsys)
        assert status == 0
        assert printed.out.count(": OK, ") == count
        assert f"{steps / '8'}: OK, " in printed.out
        assert f"all {count} good" in printed.out


def test_broken_step_is_named_with_every_damaged_file(workdir, capsys):
    steps = workdir / "inpainting" / "checkpoints"
    os.truncate(steps / "4" / "variables" / "_METADATA", 5)
    (steps / "4" / "average" / "_sharding").unlink()
    status, printed = verify(workdir, capsys)
    assert status == 2
    lines = printed.out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{steps / '4'}: BROKEN"))
    assert lines[at + 1].startswith("  average/_sharding is missing")
    assert lines[at + 2].startswith("  variables/_METADATA has 5 of ")
    assert printed.out.count(": OK, ") == 3
    assert lines[-1] == "1 of 4 broken"


def test_step_without_a_manifest_is_not_good(workdir, capsys):
    steps = workdir / "memory" / "checkpoints"
    (steps / "8" / MANIFEST).unlink()
    status, printed = verify(workdir, capsys)  # as one that a training saves just now
    assert status == 0
    assert f"{steps / '8'}: unfinished" in printed.out
    assert "all 3 good" in printed.out
    assert verify(steps / "8", capsys)[0] == 2  # asked for by name
    (steps / "4" / MANIFEST).unlink()
    status, printed = verify(steps, capsys)  # no whole one beside it
    assert status == 2
    assert printed.out.count("manifest.json is missing") == 2
    shutil.rmtree(steps / "8")
    assert verify(steps, capsys)[0] == 2


def test_steps_that_were_set_aside_are_named_and_not_counted(workdir, capsys):
    steps = workdir / "memory" / "checkpoints"
    (steps / "8").rename(steps / "8.broken")
    status, printed = verify(workdir, capsys)
    assert status == 0
    assert f"{steps / '8.broken'}: set aside" in printed.out
    assert "all 3 good" in printed.out
    status, printed = verify(steps / "8.broken", capsys)
    assert status == 0  # by itself it is looked at


@pytest.mark.parametrize(
    "damage", ["none", "binary", "flip", "missing", "line", "outside", "unlisted", "empty"]
)
def test_exported_folder_is_verified_by_its_sums(tmp_path, capsys, damage):
    folder = tmp_path / "exported"
    folder.mkdir()
    contents = {"config.json": b"{}", "model.safetensors": bytes(range(200))}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {n}\n" for n, data in contents.items())
    (folder / "SHA256SUMS").write_text(sums)
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder).returncode == 0
    expected = {
        "none": "OK, 3 files",
        "binary": "OK, 3 files",
        "flip": "model.safetensors is not what was written",
        "missing": "model.safetensors is missing",
        "line": "line 3 is 'abc' instead of a SHA-256",
        "outside": "../other' instead of a SHA-256, two spaces and a plain file name",
        "unlisted": "SHA256SUMS does not list model.safetensors",
        "empty": "SHA256SUMS does not list config.json",
    }[damage]
    if damage == "flip":
        (folder / "model.safetensors").write_bytes(bytes(range(199)) + b"\0")
    elif damage == "missing":
        (folder / "model.safetensors").unlink()
    elif damage == "line":
        (folder / "SHA256SUMS").write_text(sums + "abc\n")
    elif damage == "outside":
        (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'').hexdigest()}  ../other\n")
    elif damage == "binary":  # as `sha256sum --binary` writes it
        (folder / "SHA256SUMS").write_text(sums.replace("  ", " *"))
    elif damage == "unlisted":
        (folder / "SHA256SUMS").write_text(sums.splitlines()[0] + "\n")
    elif damage == "empty":
        (folder / "SHA256SUMS").write_text("")
    status, printed = verify(folder, capsys)
    assert status == (0 if damage in ("none", "binary") else 2)
    assert expected in printed.out


@pytest.mark.parametrize("name", BUNDLED_NETWORKS)
def test_bundled_networks_are_verified_by_their_names(name, capsys):
    assert main(["doctor", "--checkpoint", name]) == 0
    out = capsys.readouterr().out
    assert f"weights/{name}: OK" in out and out.endswith("all 1 good\n")


def test_nothing_there_is_an_error_with_a_cure(tmp_path, capsys):
    for path, words in ((tmp_path, "no checkpoint in"), (tmp_path / "no", "does not exist")):
        status, printed = verify(path, capsys)
        assert status == 2
        (line,) = printed.err.splitlines()
        assert words in line
        assert "runs/demo" in line


def test_verifying_needs_neither_jax_nor_tensorflow(workdir):
    code = (
        "import sys\n"
        "for name in ('jax', 'orbax', 'tensorflow'): sys.modules[name] = None\n"
        "from gmsrm_jax.cli import main\n"
        "sys.exit(main(['doctor', '--checkpoint', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, workdir], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "all 4 good" in done.stdout


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A compile cache for the owner only."""
    folder = tmp_path / "xla"
    folder.mkdir(mode=0o700)
    (folder / "program").write_bytes(bytes(2_500_000))
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
    jax.config.update("jax_compilation_cache_dir", str(folder))
    yield folder
    jax.config.update("jax_compilation_cache_dir", before)


def look(capsys):
    status = main(["doctor"])
    return status, capsys.readouterr().out


def test_installation_is_described_and_fine(own_cache, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_ENOUGH_DISK", 1.0)
    status, out = look(capsys)
    assert status == 0, out
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow"):
        assert f"  {name} {importlib.metadata.version(name)}\n" in out
    assert sum(line.startswith("  device ") for line in out.splitlines()) == len(jax.devices())
    assert "device 3: cpu (cpu)" in out
    assert f"compile cache {own_cache}: 1 file, 2.5 MB, mode 700" in out
    free = shutil.disk_usage(".").free / 1e9
    shown = float(out.split("disk: ")[1].split()[0].replace(",", ""))
    assert abs(shown - free) < 2
    assert "bundled facades/train: 401 files" in out
    assert "bundled weights/facades-128: " in out
    assert out.endswith("nothing needs a look\n")


def test_tensorflow_is_named_but_not_imported(own_cache):
    code = (
        "import sys; from gmsrm_jax.cli import main; main(['doctor']);"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tensorflow" in done.stdout


def without(monkeypatch, *missing):
    """Makes packages look as if they were not installed."""
    real = importlib.metadata.version

    def version(name):
        if name in missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_missing_packages_are_named_with_the_command_that_installs_them(
    own_cache, capsys, monkeypatch
):
    monkeypatch.setattr(doctor, "_ENOUGH_DISK", 1.0)
    requires = [
        "jax>=0.10",
        "pandas>=3.0",
        "clu>=0.0.12",
        'tensorflow-cpu>=2.20; platform_machine == "x86_64" and sys_platform == "linux"',
        'tensorflow>=2.20; platform_machine != "x86_64" or sys_platform != "linux"',
        'scikit-image>=0.24; extra == "eval"',
        'numpy>=2; extra == "eval"',
        'jax[cuda13]; extra == "cuda13"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
    without(monkeypatch, "scikit-image", "tensorflow", "tensorflow-cpu")
    status, out = look(capsys)
    assert status == 0, out  # none of them is needed for everything
    assert "extra eval: without scikit-image: pip install 'gmsrm-jax[eval]'" in out
    assert "extra cuda13" not in out
    assert "no tensorflow" in out
    assert "training from folders: without tensorflow: pip install gmsrm-jax" in out
    without(monkeypatch, "optax", "pandas", "clu")
    status, out = look(capsys)
    assert status == 1
    assert "! optax is missing: pip install optax" in out
    assert "! pandas is missing: pip install pandas, or -r requirements/fill.txt" in out
    assert "training from folders: without clu, tensorflow: pip install gmsrm-jax" in out


def test_what_filling_needs_is_what_the_package_requires_but_for_training():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    whole = setup["options"]["install_requires"].split("\n")
    filling = (ROOT / "requirements" / "fill.txt").read_text().splitlines()

    def names(lines):
        return {re.match(r"[\w-]+", line)[0] for line in lines if line and line[0] != "#"}

    assert names(whole) - names(filling) == set(doctor._BEYOND_FILLING)
    assert {line.split(";")[0] for line in whole} >= {x for x in filling if x and x[0] != "#"}
    serving = (ROOT / "requirements" / "serve.txt").read_text().splitlines()
    extra = setup["options.extras_require"]["serve"].split("\n")
    assert {x for x in serving if x[0] not in "-#"} == {x for x in extra if x and x[0] != "#"}


def test_open_cache_little_disk_and_missing_files_need_a_look(own_cache, capsys, monkeypatch):
    own_cache.chmod(0o777)
    monkeypatch.setattr(doctor, "_ENOUGH_DISK", 1e18)
    monkeypatch.setattr(doctor, "_ASSETS", ("facades/train", "facades/never"))
    status, out = look(capsys)
    assert status == 1
    marked = [line for line in out.splitlines() if line.startswith("!")]
    assert len(marked) == 3
    for line, words in zip(marked, ("mode 777", "GB free in", "facades/never"), strict=True):
        assert words in line
    assert out.endswith("marked with ! for a look: 3\n")
