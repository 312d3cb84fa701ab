"""The second phase: what moves, the weight of the adversarial part, crops that meet the hole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmsrm_jax.config import apply_argument, base_config, check_config
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context
from gmsrm_jax.methods.sharpening import STAGE
from gmsrm_jax.nn.crops import corners_on_hole, crop


def small_config(**fields):
    config = base_config()
    config.name = "sharp"
    config = apply_argument(config, "runlocal")
    with config.unlocked():
        config.model.channel_base, config.model.channel_max = 128, 8
        config.model.code_dim, config.model.code_channels = 8, 4
        config.inpainting.begin_from = "given by the test"
        config.sharpening.length_kimg, config.sharpening.head_start = 0.032, 2
        config.sharpening.discriminator_features = (4, 8)
        config.sharpening.update(fields)
    check_config(config)
    return config


def batch_of(count, size=32):
    rng = np.random.default_rng(1)
    mask = np.zeros((count, size, size, 1), np.uint8)
    mask[:, 8:20, 10:26] = 1
    return {
        "image": rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        "mask": mask,
    }


def begun(config):
    """The stage, its first state on random weights, a batch, and those weights."""
    method = METHODS[config.method]
    spec = method.stages_of(config)[-1]
    batch = batch_of(4)
    stage = spec.build(Context(8, batch))
    whole = method.init(config, jax.random.key(3))
    before = METHODS[config.method].stages_of(config)[-2].build(Context(8, batch))
    earlier = before.init(jax.random.key(4), {"begin_from": whole})
    given = {"inpainting": {"average": earlier.average, "kept": earlier.kept}}
    state = stage.init(jax.random.key(5), given)
    return stage, state, {**batch, **stage.constants}, whole


def changed(before, after):
    """Paths of the arrays that differ."""
    a, b = (dict(jax.tree_util.tree_leaves_with_path(t)) for t in (before, after))
    return {jax.tree_util.keystr(p) for p in a if not np.array_equal(a[p], b[p])}


def test_a_config_without_it_has_no_second_phase():
    specs = METHODS["gm_srm"].stages_of(base_config("gm_srm"))
    assert STAGE not in [spec.name for spec in specs]


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"discriminator": "features", "crop": 16}])
def test_the_discriminator_goes_ahead_then_both_move_and_the_memory_stays(fields):
    config = small_config(**fields)
    stage, state, batch, whole = begun(config)
    filled = stage.variables_of(state)
    assert not changed(whole, filled)
    assert [stage.due(step) for step in range(3)] == [("head_start",)] * 2 + [("main",)]

    ahead, told = jax.jit(stage.programs["head_start"])(state, batch)
    assert int(ahead.step) == 1 and np.isfinite(float(told["loss/discriminator"]))
    assert not changed(state.variables["network"], ahead.variables["network"])
    assert changed(state.variables["discriminator"], ahead.variables["discriminator"])

    after, scalars = jax.jit(stage.programs["main"])(ahead, batch)
    moved = changed(ahead.variables["network"], after.variables["network"])
    assert any("decoder_4" in path for path in moved)
    # Frozen weights and those of Eq. 8 are none of what the phase trains.
    names = set(after.variables["network"]["params"])
    assert not {name for name in names if name.startswith(("memory", "statistics_"))}
    assert not changed(ahead.kept, after.kept)
    values = {name: float(value) for name, value in scalars.items()}
    assert all(np.isfinite(list(values.values())))
    others = (values["gradient/filling_reconstruction"], values["gradient/filling_vgg"])
    low, high = abs(others[0] - others[1]), sum(others)
    ratio = config.sharpening.adversarial_ratio
    assert ratio * low * 0.999 <= values["gradient/filling_adversarial"] <= ratio * high * 1.001


def test_squares_meet_the_hole_and_are_cut_where_they_say():
    batch = batch_of(64)
    mask = jnp.asarray(batch["mask"])
    corners = corners_on_hole(jax.random.key(0), mask, 12)
    assert corners.min() >= 0 and corners.max() <= 20
    cut = np.asarray(crop(mask.astype(jnp.float32), corners, 12))
    assert (cut.sum((1, 2, 3)) > 0).all()
    image = np.asarray(crop(jnp.asarray(batch["image"], jnp.float32), corners, 12))
    row, column = np.asarray(corners[5])
    np.testing.assert_array_equal(image[5], batch["image"][5, row : row + 12, column : column + 12])
    assert len(np.unique(np.asarray(corners), axis=0)) > 8
    everywhere = corners_on_hole(jax.random.key(0), jnp.zeros_like(mask), 12)
    assert len(np.unique(np.asarray(everywhere), axis=0)) > 8
