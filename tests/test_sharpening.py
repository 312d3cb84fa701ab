"""The second phase: what moves, the weight of the adversarial part, crops that meet the hole."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import compiled

from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.config import apply_argument, base_config, check_config
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context
from gmsrm_jax.methods.sharpening import STAGE
from gmsrm_jax.nn.crops import corners_on_hole, crop
from gmsrm_jax.runtime.devices import data_mesh, replicated
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.training.loop import train_stage


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
        config.sharpening.vgg_layers = ("relu1_1", "relu2_1")
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


def first_weights(config, seed):
    init = functools.partial(METHODS[config.method].init, config)
    return compiled(init)(jax.random.key(seed, impl="unsafe_rbg"))


def begun(config):
    """The stage, its first state on random weights, a batch, and those weights."""
    batch = batch_of(4)
    before, stage = (
        s.build(Context(8, batch)) for s in METHODS[config.method].stages_of(config)[-2:]
    )
    whole = first_weights(config, 3)
    earlier = compiled(before.init)(jax.random.key(4), {"begin_from": whole})
    given = {"inpainting": {"average": earlier.average, "kept": earlier.kept}}
    state = compiled(stage.init)(jax.random.key(5), given)
    return stage, state, {**batch, **stage.constants}, whole


def changed(before, after):
    """Paths of the arrays that differ."""
    a, b = (dict(jax.tree_util.tree_leaves_with_path(t)) for t in (before, after))
    return {jax.tree_util.keystr(p) for p in a if not np.array_equal(a[p], b[p])}


def test_a_config_without_it_has_no_second_phase():
    specs = METHODS["gm_srm"].stages_of(base_config("gm_srm"))
    assert STAGE not in [spec.name for spec in specs]


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"discriminator": "patch"}, {"crop": 16}])
def test_the_discriminator_goes_ahead_then_both_move_and_the_memory_stays(fields):
    config = small_config(**fields)
    stage, state, batch, whole = begun(config)
    filled = stage.variables_of(state)
    assert not changed(whole, filled)
    assert [stage.due(step) for step in range(3)] == [("head_start",)] * 2 + [("main",)]

    ahead, told = compiled(stage.programs["head_start"])(state, batch)
    assert int(ahead.step) == 1 and np.isfinite(float(told["loss/discriminator"]))
    assert not changed(state.variables["network"], ahead.variables["network"])
    assert changed(state.variables["discriminator"], ahead.variables["discriminator"])

    after, scalars = compiled(stage.programs["main"])(ahead, batch)
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


def small_pconv(**fields):
    """PConv without an earlier phase's losses, and a short second phase."""
    config = apply_argument(base_config("pconv"), "pconv,runlocal")
    with config.unlocked():
        config.image_size, config.batch_size, config.pconv.width = 32, 4, 4
        config.pconv.levels = 2
        config.sharpening.length_kimg, config.sharpening.head_start = 0.016, 2
        config.sharpening.discriminator_features, config.sharpening.save_every = (4, 8), 2
        config.sharpening.vgg_layers = ("relu1_1",)
        config.sharpening.begin_from = "given by the test"
        for name, value in fields.items():
            section, _, key = name.rpartition("__")
            (config[section] if section else config)[key] = value
    check_config(config)
    return config


class Numbers:
    """Training pictures that are a function of the step; stops as a crash would."""

    num_examples = 16
    description = fingerprint = "numbers"
    bad = None

    def __init__(self, crash_at=None):
        self.crash_at = crash_at

    def batches(self, batch_size, start_step, *_):
        for step in itertools.count(start_step):
            if step == self.crash_at:
                raise RuntimeError("crash")
            given = batch_of(batch_size)
            yield given | {"image": np.roll(given["image"], step, 1)}


def test_another_method_goes_on_from_a_trained_network_and_resumes_bit_for_bit(tmp_path):
    """Two steps of the discriminator alone and four of both, in bfloat16; stopped in the middle."""
    config = small_pconv(compute_dtype="bfloat16")
    (spec,) = METHODS["pconv"].stages_of(config)
    assert (spec.name, spec.begin_from, dict(spec.after)) == (STAGE, "given by the test", {})
    given = {"begin_from": first_weights(config, 1)}

    def trained(name, crash_at=None):
        stage = spec.build(Context(16, batch_of(4)))
        train_stage(
            stage,
            data=Numbers(crash_at),
            workdir=tmp_path / name,
            mesh=data_mesh(),
            seed=3,
            given=given,
            log_every=4,
            optimization_level=0,
            tensorboard=False,
        )
        folder = checkpoint_folder(tmp_path / name, STAGE)
        target = jax.eval_shape(lambda: stage.init(jax.random.key(0), given))
        return Checkpoints(folder, read_only=True).restore(6, target, replicated(data_mesh()))

    whole = trained("whole")
    with pytest.raises(RuntimeError, match="crash"):
        trained("parts", crash_at=5)
    jax.tree.map(np.testing.assert_array_equal, whole, trained("parts"))

    # Weights move, statistics of the norms stay, and what fills is both of them.
    before, after = given["begin_from"], METHODS["pconv"].finish(config, whole.average, whole.kept)
    moved = changed(before, after)
    assert moved and not [path for path in moved if "batch_stats" in path]
    assert jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, after)


def test_feature_maps_of_the_second_phase_have_the_format_of_the_config():
    """Of all methods; pictures, weights and what is measured stay float32."""
    for dtype in ("float32", "bfloat16"):
        config = small_pconv(compute_dtype=dtype)
        stage = METHODS["pconv"].stages_of(config)[0].build(Context(16, batch_of(4)))
        given = {"begin_from": first_weights(config, 1)}
        state = jax.eval_shape(stage.init, jax.random.key(0), given)
        batch = {**batch_of(4), **stage.constants}
        program = str(jax.make_jaxpr(stage.programs["main"])(state, batch))
        convolutions = [line for line in program.splitlines() if "= conv_general_dilated" in line]
        short = [line for line in convolutions if ":bf16[" in line]
        # PConv counts known pixels in float32.
        assert len(short) > len(convolutions) / 2 if dtype == "bfloat16" else not short
        after, scalars = jax.eval_shape(stage.programs["main"], state, batch)
        assert {leaf.dtype for leaf in jax.tree.leaves((after, scalars))} <= {
            np.dtype(np.float32),
            np.dtype(np.int32),
        }
    assert METHODS["gm_srm"].takes_dtype and METHODS["edgeconnect"].takes_dtype


def test_what_the_second_phase_begins_with_is_said_once():
    with pytest.raises(UserError, match=r"begin_from = 'runs/x' begins a second phase of .* = 0"):
        small_pconv(sharpening__length_kimg=0.0, sharpening__begin_from="runs/x")
    with pytest.raises(UserError, match=r"= 'runs/x' and config.inpainting.begin_from = 'given"):
        small_config(begin_from="runs/x")
    config = apply_argument(small_pconv(), "runlocal")
    assert config.sharpening.begin_from == ""
