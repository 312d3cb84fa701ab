"""Checkpoints: damaged, not finished, of another network, or without room on the disk."""

import json
import logging
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gmsrm_jax.checkpoints import store
from gmsrm_jax.checkpoints.steps import MANIFEST, problems
from gmsrm_jax.checkpoints.store import Checkpoints, open_finished
from gmsrm_jax.methods.base import TrainState
from gmsrm_jax.runtime.devices import data_mesh, replicated
from gmsrm_jax.runtime.errors import UserError

WIDTH = 6


def make_state(step, width=WIDTH, dtype=jnp.float32):
    """A state that is a function of its step; two networks, optimizers, and an empty item."""
    draw = np.random.default_rng(step)

    def array(*shape):
        return jnp.asarray(draw.normal(size=shape), dtype)

    params = {"g": {"kernel": array(3, width), "bias": array(width)}, "d": {"w": array(2, 2)}}
    variables = {name: {"params": weights} for name, weights in params.items()}
    optimizer = optax.chain(optax.scale_by_adam(), optax.clip(1.0), optax.scale_by_schedule(float))
    return TrainState(
        jnp.asarray(step, jnp.int32),
        variables,
        {"network": params["g"]},
        {"g": optimizer.init(params["g"])},
        {},
        {"mean": array(), "count": jnp.asarray(step, jnp.int32)},
    )


def shapes(**kwargs):
    return jax.eval_shape(lambda: make_state(0, **kwargs))


def everywhere():
    return replicated(data_mesh())


def save(folder, *steps):
    """Saves states as a training does, on all devices."""
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(jax.device_put(make_state(step), everywhere()))
    checkpoints.finish()


def newest(checkpoints, target=None):
    step = checkpoints.newest_good()
    return None if step is None else checkpoints.restore(step, target or shapes(), everywhere())


def restore(folder, read_only=False):
    checkpoints = Checkpoints(folder, read_only)
    try:
        return newest(checkpoints)
    finally:
        checkpoints.finish()


def assert_is_state_of(step, state):
    expected = make_state(step)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def files(step):
    return sorted(path.relative_to(step).as_posix() for path in step.rglob("*") if path.is_file())


def flip(path, bit=0):
    """Flips a bit in the middle of a file, or puts a byte into an empty one."""
    data = bytearray(path.read_bytes() or b"\0")
    data[len(data) // 2] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of the steps 4 and 8."""
    save(tmp_path / "checkpoints", 4, 8)
    return tmp_path / "checkpoints"


@pytest.fixture(scope="module")
def a_step(tmp_path_factory):
    """One whole step, not to be changed."""
    folder = tmp_path_factory.mktemp("a") / "checkpoints"
    save(folder, 4)
    return folder / "4"


def test_newest_state_comes_back_bit_for_bit_with_the_two_newest_kept(folder):
    save(folder, 12)
    assert names(folder) == ["12", "8"]
    assert_is_state_of(12, restore(folder))
    assert restore(folder).variables["g"]["params"]["kernel"].sharding == everywhere()


def test_nothing_saved_yet_is_none_and_a_reader_makes_nothing(tmp_path):
    assert restore(tmp_path / "new") is None
    assert Checkpoints(tmp_path / "new").latest() is None
    with pytest.raises(UserError, match=r"no checkpoint in .*never; train first"):
        open_finished(tmp_path / "never", "train first")
    assert not (tmp_path / "never").exists()


def test_manifest_lists_every_file_with_size_and_the_hash_of_another_program(folder):
    listed = json.loads((folder / "8" / MANIFEST).read_text())["files"]
    assert sorted([*listed, MANIFEST]) == files(folder / "8")
    for name, facts in listed.items():
        assert facts["bytes"] == (folder / "8" / name).stat().st_size
        words = subprocess.run(
            ["sha256sum", folder / "8" / name], capture_output=True, text=True, check=True
        ).stdout.split()
        assert facts["sha256"] == words[0]


def test_any_flipped_bit_missing_or_cut_file_of_a_step_is_found_and_named(a_step, tmp_path):
    assert problems(a_step) == []
    kinds = files(a_step)
    assert {"_CHECKPOINT_METADATA", "variables/_METADATA", MANIFEST} <= set(kinds)
    step = shutil.copytree(a_step, tmp_path / "4")
    for index, name in enumerate(kinds):
        path = step / name
        good = path.read_bytes()
        found = {}
        flip(path, index % 8)
        found["flip"] = problems(step)
        path.write_bytes(good[: len(good) // 2])
        found["cut"] = problems(step)
        path.unlink()
        found["remove"] = problems(step)
        path.write_bytes(good)
        for damage, wrong in found.items():
            assert len(wrong) == 1, (name, damage, wrong)
            assert name in wrong[0] or name == MANIFEST
    assert problems(step) == []


def test_no_flipped_bit_of_the_manifest_passes(a_step, tmp_path):
    step = tmp_path / "4"
    shutil.copytree(a_step, step)
    path = step / MANIFEST
    good = path.read_bytes()
    text = json.loads(good)
    text["files"] = dict(list(text["files"].items())[:2])
    good = json.dumps(text, indent=1).encode()
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1 << (place % 8)
        path.write_bytes(data)
        assert problems(step), (place, good[place - 5 : place + 5])


def test_files_beside_the_manifests_are_no_damage(a_step, tmp_path):
    shutil.copytree(a_step, tmp_path / "4")
    (tmp_path / "4" / ".DS_Store").write_bytes(b"x")
    assert problems(tmp_path / "4") == []


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_broken_newest_is_named_set_aside_and_never_restored(folder, caplog, damage):
    path = max(
        (folder / "8" / "variables").rglob("*"), key=lambda p: p.stat().st_size * p.is_file()
    )
    if damage == "flip":
        flip(path)
    elif damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING, "gmsrm"):
        state = restore(folder)
    assert_is_state_of(4, state)
    assert names(folder) == ["4", "8.broken"]
    (message,) = [r.getMessage() for r in caplog.records if r.name == "gmsrm"]
    for words in (f"{folder}/8 is broken", path.name, "8.broken", "step 4 is taken"):
        assert words in message


def test_step_that_was_set_aside_is_saved_again(folder):
    flip(folder / "8" / "extra" / "manifest.ocdbt")
    checkpoints = Checkpoints(folder)
    state = newest(checkpoints)
    assert int(state.step) == 4
    assert checkpoints.save(make_state(8)) == 8
    checkpoints.finish()
    assert names(folder) == ["4", "8", "8.broken"]
    assert_is_state_of(8, restore(folder))
    flip(folder / "8" / MANIFEST)
    assert_is_state_of(4, restore(folder))
    assert names(folder) == ["4", "8.broken", "8.broken2"]


def test_reader_beside_a_training_passes_over_broken_steps_and_touches_nothing(folder, caplog):
    flip(folder / "8" / "average" / "_METADATA")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert_is_state_of(4, restore(folder, read_only=True))
    checkpoints, step = open_finished(folder, "train first")
    assert step == 4
    assert checkpoints.latest() == 8
    with pytest.raises(UserError, match=r"checkpoints/8 is broken \(average/_METADATA"):
        checkpoints.restore_items(8, {"average": shapes().average}, everywhere())
    items = checkpoints.restore_items(4, {"average": shapes().average, "kept": {}}, everywhere())
    checkpoints.finish()
    assert items["kept"] == {}
    np.testing.assert_array_equal(
        items["average"]["network"]["bias"], make_state(4).average["network"]["bias"]
    )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_all_broken_is_an_error_that_names_them_and_moves_nothing(folder):
    flip(folder / "8" / "variables" / "manifest.ocdbt")
    (folder / "4" / "extra" / "_METADATA").unlink()
    for _ in range(2):
        with pytest.raises(UserError) as error:
            restore(folder)
        message = str(error.value)
        assert "\n" not in message
        for words in (str(folder), "8: variables/manifest.ocdbt", "4: extra/_METADATA is missing"):
            assert words in message
        assert names(folder) == ["4", "8"]


def test_save_killed_before_its_manifest_is_set_aside_and_training_goes_on_before_it(
    folder, caplog
):
    (folder / "8" / MANIFEST).unlink()
    reader, step = open_finished(folder, "train first")
    reader.finish()
    assert step == 4
    assert names(folder) == ["4", "8"]
    with caplog.at_level(logging.WARNING, "gmsrm"):
        assert_is_state_of(4, restore(folder))
    assert names(folder) == ["4", "8.unfinished"]
    assert "goes on from step 4" in caplog.text
    save(folder, 8)
    assert_is_state_of(8, restore(folder))


def test_very_first_save_killed_before_its_manifest_starts_anew(tmp_path, caplog):
    save(tmp_path, 4)
    (tmp_path / "4" / MANIFEST).unlink()
    with pytest.raises(UserError, match=r"no checkpoint in .* \(4: without manifest.json"):
        open_finished(tmp_path, "train first")
    with caplog.at_level(logging.WARNING, "gmsrm"):
        assert restore(tmp_path) is None
    assert "goes on from the start" in caplog.text
    assert names(tmp_path) == ["4.unfinished"]


def test_what_a_killed_removal_left_is_removed(folder):
    shutil.copytree(folder / "4", folder / "2")  # it was not begun
    shutil.copytree(folder / "4", folder / "3.removing")
    (folder / "3.removing" / MANIFEST).unlink()
    assert_is_state_of(8, restore(folder))
    assert names(folder) == ["4", "8"]


def test_older_step_is_there_until_the_new_one_has_its_manifest(folder, monkeypatch):
    def killed(step):
        raise OSError("killed")

    monkeypatch.setattr(store, "write_manifest", killed)
    with pytest.raises(
        UserError, match=r"12 could not be saved \(killed\); the newest good checkpoint is"
    ):
        save(folder, 12)
    assert names(folder) == ["12", "4", "8"]
    flip(folder / "8" / "variables" / "_METADATA")
    assert_is_state_of(4, restore(folder))
    assert names(folder) == ["12.unfinished", "4", "8.broken"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"dtype": jnp.bfloat16}, ["average/network/bias: float32 [6]", "bfloat16 [6]"]),
        ({"width": 7}, ["average/network/bias: float32 [6]", "float32 [7]", "more"]),
    ],
)
def test_other_dtypes_and_shapes_are_refused_and_never_cast(folder, target, words):
    checkpoints = Checkpoints(folder)
    with pytest.raises(UserError) as error:
        newest(checkpoints, shapes(**target))
    checkpoints.finish()
    for part in (*words, f"{folder}/8 cannot be restored with this config"):
        assert part in str(error.value)
    assert names(folder) == ["4", "8"]  # they are good, the config is another


@pytest.mark.parametrize("change", ["missing", "extra", "item"])
def test_missing_and_extra_arrays_are_refused_by_name(folder, change):
    target = shapes()
    array = jax.ShapeDtypeStruct((2,), jnp.float32)
    if change == "missing":
        del target.variables["g"]["params"]["bias"]
        words = "variables/g/params/bias: float32 [6] in the checkpoint, nothing by the config"
    elif change == "extra":
        target.variables["g"]["params"]["more"] = array
        words = "variables/g/params/more: nothing in the checkpoint, float32 [2] by the config"
    else:
        target = target.replace(kept={"memory": array})
        words = "kept/memory: nothing in the checkpoint"
    checkpoints = Checkpoints(folder)
    with pytest.raises(UserError) as error:
        newest(checkpoints, target)
    checkpoints.finish()
    assert words in str(error.value)


def test_a_step_is_saved_once(folder):
    checkpoints = Checkpoints(folder)
    assert checkpoints.save(make_state(12)) == 12
    assert checkpoints.save(make_state(12)) == 12
    assert checkpoints.latest() == 12
    checkpoints.finish()
    checkpoints.finish()
    assert names(folder) == ["12", "8"]


@pytest.mark.parametrize("surfaces", ["at the next save", "at the end"])
def test_save_that_fails_in_the_background_surfaces_and_leaves_the_others(folder, surfaces):
    checkpoints = Checkpoints(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # as a full disk or a quota
    try:
        state = make_state(12, width=20_000)
        checkpoints.save(state)
        with pytest.raises(UserError) as error:
            if surfaces == "at the end":
                checkpoints.finish()
            else:
                checkpoints.save(state.replace(step=jnp.asarray(16, jnp.int32)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    checkpoints.finish()
    message = str(error.value)
    assert "\n" not in message
    for words in (
        f"{folder}/12 could not be saved",
        "File too large",
        "newest good checkpoint is step 8",
    ):
        assert words in message
    assert_is_state_of(8, restore(folder))
    save(folder, 12)
    assert names(folder) == ["12", "8"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 900 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", folder]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("only a superuser can mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_loses_no_earlier_checkpoint(small_disk):
    folder = small_disk / "checkpoints"
    save(folder, 4, 8)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 200_000))
    checkpoints = Checkpoints(folder)
    checkpoints.save(make_state(12, width=25_000))
    with pytest.raises(UserError, match=r"12 could not be saved \(No space left on device\)"):
        checkpoints.finish()
    assert problems(folder / "8") == []
    ballast.unlink()
    assert_is_state_of(8, restore(folder))


def test_killed_temporary_folder_is_no_checkpoint_and_is_cleaned_up(folder):
    (folder / "12.orbax-checkpoint-tmp").mkdir()
    (folder / "12.orbax-checkpoint-tmp" / "half").write_bytes(b"x")
    assert_is_state_of(8, restore(folder))
    save(folder, 12)
    assert names(folder) == ["12", "8"]


def test_import_of_the_manifest_needs_no_jax():
    code = (
        "import sys, gmsrm_jax.checkpoints.steps;"
        "sys.exit(any(m in sys.modules for m in ('jax', 'orbax', 'tensorflow')))"
    )
    root = pathlib.Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
