"""The stand-in for Lahiri et al.: sizes, losses by hand, and what stays frozen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import compiled, filled_by_hand
from small_stages import BATCH, Recorder, assert_same, context, initial, leaves, pictures

from gmsrm_jax.config import apply_argument, base_config, check_config
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.lahiri import LAHIRI, PredictorStage, build_predictor, synthesise
from gmsrm_jax.methods.variables import count_parameters, variable_shapes
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.pixels import to_signed

# Biases of two convolutions at 128, 64, and 32 to 4 px, in front of instance norms: we have none.
UNSEEN = 2 * (128 + 256 + 4 * 512)


def small_config(**fields):
    config = apply_argument(base_config("lahiri"), "runlocal")
    config.batch_size = config.memory.batch_size = BATCH
    config.model.channel_base, config.model.channel_max = 128, 8
    config.model.code_dim, config.model.code_channels = 8, 4
    config.lahiri.schedule = "constant"
    for name, value in fields.items():
        config.lahiri[name] = value
    check_config(config)
    return config


def given(config, stage):
    """What stage 1 hands over, with weights drawn here."""
    memory = next(spec for spec in LAHIRI.stages_of(config) if spec.name == "memory")
    state = jax.eval_shape(memory.build(context()).init, jax.random.key(0), {})
    generator = filled_by_hand(state.kept["generator"], seed=5)["params"]
    # The mapping's weights count a hundredth, or codes would hardly depend on z.
    generator["mapping"] = jax.tree.map(lambda x: 300 * x, generator["mapping"])
    kept = {
        "generator": {"params": generator},
        "code_average": jnp.linspace(-1.0, 1.0, config.model.code_dim),
        "distance": jnp.ones(()),
        "step": jnp.asarray(7, jnp.int32),
    }
    return {"memory": {"variables": filled_by_hand(state.variables, seed=6), "kept": kept}}


@functools.cache
def begun(**fields):
    """Stage, its first state, and the record of its programs."""
    config = small_config(**fields)
    stage = PredictorStage(config, context())
    state = jax.device_get(initial(stage, given(config, stage)))
    return config, stage, state, Recorder(stage)


def test_number_of_parameters_at_full_width():
    config = base_config("lahiri")
    trained, frozen = count_parameters(LAHIRI, config, variable_shapes(LAHIRI, config))
    assert trained == 18_951_768 + 819_776 - UNSEEN == 19_771_544 - UNSEEN
    synthesis = frozen - 2 * (512 * 512 + 512)
    assert 22.6e6 < synthesis < 22.75e6
    config.lahiri.latent, config.lahiri.train_generator = "w", True
    trained, frozen = count_parameters(LAHIRI, config, variable_shapes(LAHIRI, config))
    assert (trained, frozen) == (19_771_544 - UNSEEN + synthesis + 512, 0)


def test_codes_come_from_z_and_no_others():
    assert base_config("lahiri").memory.code_source == "mapping"
    assert base_config("gm_srm").memory.code_source == "encoder"
    config = small_config()
    config.memory.code_source = "encoder"
    with pytest.raises(UserError, match=r"config\.memory\.code_source = 'encoder'"):
        check_config(config)


def test_its_first_stage_is_the_one_of_gm_srm():
    ours, theirs = (METHODS[name].stages_of(base_config(name))[0] for name in ("lahiri", "gm_srm"))
    assert ours.name == theirs.name == "memory"
    assert ours.shared == theirs.shared != ()


@pytest.mark.parametrize("factor", [0.01, 3.0, 500.0])
def test_only_the_direction_of_z_counts(factor):
    config, _, state, _ = begun()
    z = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    draw = compiled(lambda vector: synthesise(config, state.kept["generator"], vector))
    np.testing.assert_allclose(draw(factor * z), draw(z), atol=2e-3)
    assert np.abs(draw(z)[0] - draw(z)[1]).max() > 0.1


def test_w_begins_with_the_average_code():
    config, stage, state, _ = begun(latent="w")
    generator = state.kept["generator"]
    assert "mapping" not in generator["params"]
    inputs = pictures(3, 2)
    seen = to_signed(inputs["image"]), inputs["mask"].astype(np.float32)
    vector = compiled(build_predictor(config).apply)(state.variables["predictor"], *seen)
    np.testing.assert_array_equal(vector, 0)
    filled = stage.fill(jax.tree.map(jnp.asarray, state), inputs["image"], inputs["mask"])
    np.testing.assert_array_equal(filled[0], filled[1])


def test_generator_and_discriminator_keep_every_bit():
    config, stage, state, recorder = begun()
    handed = given(config, stage)["memory"]
    now, batch = state, pictures(2, BATCH)
    for _ in range(3):
        now = recorder.call("main", now, batch).after
    assert_same(now.kept["generator"], handed["kept"]["generator"])
    assert_same(now.kept["discriminator"], handed["variables"]["discriminator"])
    assert set(now.variables) == set(now.average) == set(now.optimizer) == {"predictor"}
    before = leaves(state.variables)
    moved = leaves(now.variables).items()
    assert not [name for name, leaf in moved if np.array_equal(leaf, before[name])]
    whole = LAHIRI.finish(config, now.average, now.kept)
    shapes = jax.tree.map(lambda x: x.shape, variable_shapes(LAHIRI, config))
    assert jax.tree.map(np.shape, whole) == shapes
    assert LAHIRI.frozen(config, ("generator", "params", "memory"))
    assert not LAHIRI.frozen(config, ("predictor", "params", "encoder"))


def test_an_undecided_discriminator_costs_ln_2():
    """With logits 0 the loss is the squared error and 0.008 · ln 2, whatever the picture."""
    config, _, state, recorder = begun()
    judge = state.kept["discriminator"]["params"]
    blind = {**judge, "logit": jax.tree.map(np.zeros_like, judge["logit"])}
    state = state.replace(kept={**state.kept, "discriminator": {"params": blind}})
    batch = pictures(2, BATCH)
    scalars = recorder.call("main", state, batch).scalars
    seen = to_signed(batch["image"]), batch["mask"].astype(np.float32)
    vector = compiled(build_predictor(config).apply)(state.variables["predictor"], *seen)
    draw = compiled(lambda vector: synthesise(config, state.kept["generator"], vector))
    error = np.asarray(draw(vector), np.float64) - np.asarray(seen[0], np.float64)
    np.testing.assert_allclose(scalars["loss/reconstruction"], np.square(error).mean(), rtol=1e-4)
    np.testing.assert_allclose(scalars["loss/adversarial"], np.log(2.0), rtol=1e-6)
    rest = scalars["loss/total"] - scalars["loss/reconstruction"]
    np.testing.assert_allclose(rest, 0.005545, atol=2e-6)


def test_every_term_has_its_weight_and_the_generator_moves_with_its_switch():
    fields = {"reconstruction_weight": 2.0, "adversarial_weight": 0.5, "perceptual_weight": 0.25}
    config, stage, state, recorder = begun(train_generator=True, **fields)
    call = recorder.call("main", state, pictures(2, BATCH))
    assert call.scalars["loss/perceptual"] > 0
    total = sum(
        weight * call.scalars[f"loss/{name.removesuffix('_weight')}"]
        for name, weight in fields.items()
    )
    np.testing.assert_allclose(call.scalars["loss/total"], total, rtol=1e-6)
    assert "vgg" in stage.constants
    assert "vgg" not in begun()[1].constants

    moved, before = (leaves(x.variables["generator"]) for x in (call.after, state))
    # Noise is silent, so its strengths have no gradient.
    still = {name for name in moved if np.array_equal(moved[name], before[name])}
    assert still == {name for name in moved if "noise_strength" in name} != set()
    assert set(call.after.kept) == {"discriminator"}
    assert not LAHIRI.frozen(config, ("generator", "params", "memory"))


def test_a_filling_is_clipped_and_a_loss_is_not():
    config, _, state, recorder = begun()
    loud = jax.tree.map(lambda x: 30 * x, state.kept["generator"]["params"]["memory"]["rgb_4"])
    memory = {**state.kept["generator"]["params"]["memory"], "rgb_4": loud}
    params = {**state.kept["generator"]["params"], "memory": memory}
    state = state.replace(kept={**state.kept, "generator": {"params": params}})
    batch = pictures(2, BATCH)
    assert recorder.call("main", state, batch).scalars["loss/reconstruction"] > 4.5
    whole = LAHIRI.finish(config, state.average, state.kept)
    seen = to_signed(batch["image"]), batch["mask"].astype(np.float32)
    filled = compiled(lambda v, i, m: LAHIRI.fill(config, v, i, m, {}))(whole, *seen)
    assert float(jnp.abs(filled).max()) == 1.0
