"""memory.grow_from: a stage 1 that begins with the weights of one at a smaller size."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from small_networks import applied, compiled, normal, weights_for
from small_stages import leaves, memory_stage, small_config
from toy_method import TOY

from gmsrm_jax.checkpoints.store import checkpoint_folder, open_finished
from gmsrm_jax.config import apply_argument, base_config
from gmsrm_jax.config.of_run import remember_config
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.gm_srm.fields import check_growth
from gmsrm_jax.methods.gm_srm.growth import grow, taken_over
from gmsrm_jax.methods.gm_srm.memory import GenerativeMemory, channel_table, noise_shapes
from gmsrm_jax.methods.gm_srm.memory_discriminator import MemoryDiscriminator
from gmsrm_jax.runtime.devices import data_mesh, replicated
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.training.loop import abstract_state
from gmsrm_jax.training.run import train

SMALL, LARGE = channel_table(32, 512, 8), channel_table(64, 512, 8)


def doubled(images: np.ndarray) -> np.ndarray:
    """Zeros between the pixels, then [1, 3, 3, 1] / 4 along both axes, in float64."""
    n, height, width, channels = images.shape
    wide = np.zeros((n, 2 * height + 3, 2 * width + 3, channels))
    wide[:, 2:-1:2, 2:-1:2] = images
    for axis, length in ((1, 2 * height), (2, 2 * width)):
        parts = [
            tap / 4 * np.take(wide, range(k, k + length), axis)
            for k, tap in enumerate((1.0, 3.0, 3.0, 1.0))
        ]
        wide = np.sum(parts, axis=0)
    return wide


def test_grown_memory_makes_the_smaller_one_s_images_at_twice_the_size():
    codes = normal(1, 2, 5, 8)
    noise = [normal(k, *shape) for k, shape in enumerate(noise_shapes(2, sorted(LARGE)))]
    small, large = GenerativeMemory(SMALL), GenerativeMemory(LARGE)
    weights = weights_for(small, codes[:, :4], noise[:-2], seed=3)
    grown = grow(weights_for(large, codes, noise, seed=4), weights)

    image = applied(small, weights, codes[:, :4], noise[:-2])

    np.testing.assert_allclose(applied(large, grown, codes, noise), doubled(image), atol=1e-5)


def test_new_levels_of_the_memory_are_drawn_and_can_learn():
    codes, noise = normal(1, 1, 5, 8), [normal(0, *s) for s in noise_shapes(1, sorted(LARGE))]
    small, large = GenerativeMemory(SMALL), GenerativeMemory(LARGE)
    drawn = weights_for(large, codes, noise, seed=4)
    grown = grow(drawn, weights_for(small, codes[:, :4], noise[:-2], seed=3))

    for name in ("up_64", "conv_64"):
        assert np.array_equal(grown[name]["kernel"], drawn[name]["kernel"])
    slope = jax.grad(lambda w: jnp.square(large.apply({"params": w}, codes, noise) - 1.0).sum())
    assert np.abs(compiled(slope)(grown)["rgb_64"]["kernel"]).max() > 0


def test_discriminator_takes_all_levels_but_those_next_to_the_picture():
    # Eight channels at 32 and at 64 px, so that shapes alone would not tell its first layers apart.
    small = weights_for(MemoryDiscriminator(SMALL), normal(1, 4, 32, 32, 3), seed=3)
    drawn = weights_for(MemoryDiscriminator(LARGE), normal(1, 4, 64, 64, 3), seed=4)
    grown = grow(drawn, small)

    new = {"from_rgb", "block_64"}
    assert {path[0] for path in taken_over(drawn, small)} == drawn.keys() - new
    for name in drawn:
        source = drawn if name in new else small
        assert jax.tree.all(jax.tree.map(np.array_equal, grown[name], source[name]))


def config_of(size: int, **fields: object) -> ConfigDict:
    return small_config(
        image_size=size,
        memory__length_kimg=0.008,
        memory__r1_interval=0,
        memory__path_interval=0,
        memory__code_source="mapping",
        xla_optimization_level=0,
        **fields,
    )


def generator_of(config: ConfigDict, workdir: pathlib.Path) -> dict[str, np.ndarray]:
    checkpoints, step = open_finished(checkpoint_folder(workdir, "memory"), "")
    wanted = {"variables": abstract_state(memory_stage(config), config.seed, {}).variables}
    restored = checkpoints.restore_items(step, wanted, replicated(data_mesh()))
    checkpoints.finish()
    return leaves(restored["variables"]["generator"])


@pytest.mark.slow
def test_run_begins_with_the_named_workdir_and_goes_on_from_its_own(tmp_path, capsys):
    small = config_of(32)
    train(small, tmp_path / "small", stage="memory")
    large = config_of(64, memory__grow_from=str(tmp_path / "small"), memory__learning_rate=1e-12)

    train(large, tmp_path / "large", stage="memory")

    said = capsys.readouterr().out
    assert f"begins with the weights of {tmp_path / 'small'}, 32 px, step 2" in said
    after = generator_of(large, tmp_path / "large")
    for name, weight in generator_of(small, tmp_path / "small").items():
        np.testing.assert_allclose(after[name], weight, atol=1e-9, err_msg=name)
    train(large, tmp_path / "large", stage="memory")
    assert "begins with" not in capsys.readouterr().out


def test_missing_smaller_memory_is_named_with_the_cure(tmp_path):
    config = config_of(64, memory__grow_from=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"grow_from = '.*none' does not exist; train it with"):
        train(config, tmp_path / "large", stage="memory")


@pytest.mark.parametrize("method", ["gm_srm", "toy"])
def test_workdir_without_such_a_stage_is_refused(tmp_path, monkeypatch, method):
    """GM-SRM's variant `base` has no memory, and neither has another method."""
    monkeypatch.setitem(METHODS, "toy", TOY)
    smaller = base_config(method)
    if method == "gm_srm":
        smaller.variant = "base"
    (tmp_path / "small").mkdir()
    remember_config(smaller, tmp_path / "small", "pictures")
    config = config_of(64, memory__grow_from=str(tmp_path / "small"))
    words = rf"grow_from: .*small is of the method {method} with the stages \w+; name one of gm_srm"
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "large", stage="memory")


def test_first_save_that_was_killed_does_not_count_as_begun(tmp_path):
    (tmp_path / "large" / "memory" / "checkpoints" / "5").mkdir(parents=True)
    config = config_of(64, memory__grow_from=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"grow_from = '.*none' does not exist; train it with"):
        train(config, tmp_path / "large", stage="memory")


def test_short_local_run_begins_from_nothing():
    config = base_config()
    config.memory.grow_from = "runs/small"
    assert apply_argument(config, "runlocal").memory.grow_from == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": 64}, "has image_size 64, and this config 64; name one of fewer pixels"),
        ({"model__code_dim": 16}, "has model.code_dim = 16, and this config 8; use the same"),
        ({"memory__code_source": "encoder"}, "memory.code_source = 'encoder', and this config"),
    ],
)
def test_memory_of_another_kind_is_refused(fields, words):
    settings = {"image_size": 32, "memory__code_source": "mapping", **fields}
    config = config_of(64, memory__grow_from="runs/small")
    with pytest.raises(UserError, match="runs/small") as caught:
        check_growth(config, small_config(**settings))
    assert words in str(caught.value)
