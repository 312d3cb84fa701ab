"""inpainting.begin_from: a stage 2 that begins with all weights of a trained network."""

import pathlib
import shutil

import jax
import numpy as np
import pytest
from exported_networks import exported
from ml_collections import ConfigDict
from PIL import Image
from small_stages import leaves, small_config

from gmsrm_jax.commands.comparison import Row, check_rows
from gmsrm_jax.commands.scoring import evaluate_and_report
from gmsrm_jax.config import apply_argument, base_config
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.training.run import train


def config_of(begin_from: pathlib.Path, **fields: object) -> ConfigDict:
    """Two steps at a rate that moves nothing, without a test set."""
    return small_config(
        inpainting__begin_from=str(begin_from),
        inpainting__learning_rate=1e-12,
        inpainting__epochs=0.02,
        data__test_fraction=0.0,
        xla_optimization_level=0,
        **fields,
    )


@pytest.mark.slow
def test_run_begins_with_every_weight_of_a_folder_or_a_workdir(tmp_path, capsys):
    folder = exported(tmp_path / "folder")
    given = leaves(load_pretrained(folder).variables)
    for source, workdir in (("folder", "first"), ("first", "second")):
        config = config_of(tmp_path / source)
        train(config, tmp_path / workdir)

        assert f"inpainting: begins as {tmp_path / source}" in capsys.readouterr().out
        trained = leaves(load_pretrained(tmp_path / workdir).variables)
        assert trained.keys() == given.keys()
        for name, weight in given.items():
            np.testing.assert_allclose(trained[name], weight, atol=1e-7, err_msg=name)
        assert not (tmp_path / workdir / "memory").exists()

        # Nothing moved, and the same pictures with the same seed: before is after.
        sheet = np.asarray(Image.open(tmp_path / workdir / "before_after.png"))
        side = (sheet.shape[1] - 3 * 4) // 4  # four columns, and gaps of 4 pixels
        holed, before, after, truth = (
            sheet[:side, i * (side + 4) :][:, :side].astype(int) for i in range(4)
        )
        filled = (holed != truth).any(-1)
        assert 0.01 < filled.mean() < 0.99
        assert (before != truth)[filled].any()
        assert abs(before - after).max() <= 1
        np.testing.assert_array_equal(before[~filled], truth[~filled])

    with config.unlocked():
        config.data.test = str(tmp_path / "test.npy")
        config.evaluation.update(max_images=2, baselines=(), masks="generated", batch_size=8)
    np.save(config.data.test, np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8))
    evaluate_and_report(config, tmp_path / "second", "try")
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"against {tmp_path / 'first'}, which it began with: PSNR ")
    assert line.endswith("2 test pictures: no clear difference, more test pictures would tell")

    shutil.rmtree(folder)
    train(config_of(folder), tmp_path / "first")
    assert "finished before, nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_frozen_memory_stays_and_the_rest_learns(tmp_path):
    folder = exported(tmp_path / "folder")
    config = config_of(folder, inpainting__ema=0.5)
    config.inpainting.learning_rate = 1e-2

    train(config, tmp_path / "run", stage="inpainting")

    given, trained = (
        load_pretrained(tmp_path / name).variables["network"]["params"]
        for name in ("folder", "run")
    )
    equal = jax.tree.map(np.array_equal, given, trained)
    assert jax.tree.all(equal["memory"])
    assert not equal["output"]["conv"]["kernel"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": 64}, "has image_size = 32, and this config 64; use the same"),
        ({"variant": "base"}, "has variant = 'gm_srm', and this config 'base'; use the same"),
        ({"memory__code_source": "mapping"}, "has memory.code_source = 'encoder', and this"),
    ],
)
def test_another_network_is_refused_before_the_workdir_holds_a_config(tmp_path, fields, words):
    config = config_of(exported(tmp_path / "folder"), **fields)
    with pytest.raises(UserError, match=r"config\.inpainting\.begin_from: .*folder") as caught:
        train(config, tmp_path / "run")
    assert words in str(caught.value)
    assert not (tmp_path / "run" / "config.json").exists()


def test_missing_network_is_named_with_the_field(tmp_path):
    config = config_of(tmp_path / "none")
    words = r"begin_from = '.*none': .*none: there is no such folder; name one"
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_dry_run_tells_what_the_run_would_begin_as(tmp_path, capsys):
    config = config_of(exported(tmp_path / "folder", dtype="float16"))

    train(config, tmp_path / "run", dry_run=True)

    said = capsys.readouterr().out
    digest = load_pretrained(tmp_path / "folder").sha256[:12]
    assert f"begins as {tmp_path / 'folder'}, weights SHA-256 {digest}; no stage before" in said
    assert said.count(" steps of ") == 1


def test_comparison_of_variants_trains_its_own_memory(tmp_path):
    row = Row("gm_srm", config_of(tmp_path / "folder", data__test="bundled:facades/test"))
    with pytest.raises(UserError, match="brings trained weights, and a comparison trains its own"):
        check_rows([row])


def test_stage_1_has_nothing_to_do(tmp_path):
    config = config_of(tmp_path / "folder")
    words = r"--stage=memory: .* begins from .*folder has no such stage; use .*: all, inpainting$"
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "run", stage="memory")


def test_short_local_run_begins_from_nothing():
    config = base_config()
    config.inpainting.begin_from = "facades-128"
    assert apply_argument(config, "runlocal").inpainting.begin_from == ""
