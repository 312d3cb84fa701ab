"""Gradient accumulation gives the step without it wherever examples do not know each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_stages import (
    Recorder,
    initial,
    inpainting_stage,
    leaves,
    memory_stage,
    pictures,
    small_config,
    snapshot,
)

from gmsrm_jax.config import base_config, check_config
from gmsrm_jax.methods.gm_srm import memory_discriminator as discriminators
from gmsrm_jax.nn.accumulation import in_micro_batches
from gmsrm_jax.runtime.errors import UserError

BATCH = 4


@pytest.mark.parametrize("count", [1, 2, 3])
def test_means_and_rows_are_those_of_the_whole_batch(count):
    rng = np.random.default_rng(0)
    x, index = rng.normal(size=(6, 2)).astype(np.float32), np.arange(6, dtype=np.int32)
    seen = []

    def part(given):
        seen.append(given["x"].shape)
        rows = {"index": given["index"], "twice": 2 * given["x"], "none": None}
        return {"square": jnp.square(given["x"]).mean(), "sum": given["x"].sum(0)}, rows

    means, rows = jax.jit(lambda parts: in_micro_batches(part, parts, count))(
        {"x": x, "index": index}
    )
    assert set(seen) == {(6 // count, 2)}
    np.testing.assert_allclose(means["square"], np.square(x).mean(), rtol=1e-6)
    np.testing.assert_allclose(means["sum"], x.sum(0) / count, rtol=1e-5)
    np.testing.assert_array_equal(rows["index"], index)
    np.testing.assert_array_equal(rows["twice"], 2 * x)


def test_micro_batches_take_every_kth_example():
    """So that each device takes its own examples apart: rows b, b + k, b + 2k, …"""

    def part(index):
        return (), jnp.broadcast_to(index.sum(), index.shape)

    _, sums = in_micro_batches(part, jnp.arange(6), 3)
    np.testing.assert_array_equal(sums, [0 + 3, 1 + 4, 2 + 5] * 2)


def gradients(call, network):
    """What the optimizer was given in its first step, times a constant."""
    found = leaves(call.after.optimizer[network])
    return {name: leaf for name, leaf in found.items() if ".mu" in name}


def assert_close(first, second, names, scale=1e-4):
    """The same gradients up to `scale` of each network's largest, and the same scalars."""
    for network in names:
        one, other = (gradients(call, network) for call in (first, second))
        largest = max(np.abs(leaf).max() for leaf in one.values())
        assert largest > 0
        for name in one:
            np.testing.assert_allclose(
                other[name], one[name], rtol=0, atol=scale * largest, err_msg=name
            )
    assert first.scalars.keys() == second.scalars.keys()
    for name, value in first.scalars.items():
        np.testing.assert_allclose(
            second.scalars[name], value, rtol=10 * scale, atol=1e-6, err_msg=name
        )


@pytest.fixture(scope="module")
def memory_calls():
    """Stage 1's programs with one and two micro-batches, their groups of examples left out."""

    def without_groups(x):
        return jnp.concatenate([x, jnp.zeros_like(x[..., :1])], axis=-1)

    calls = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discriminators, "minibatch_stddev", without_groups)
        for count in (1, 2):
            config = small_config(
                accumulation=count,
                memory__augment="ada",
                memory__style_mixing=0.0,
                memory__reconstruction_weight=0.5,
                memory__noise_strength_init=0.1,
            )
            recorder = Recorder(memory_stage(config))
            if not calls:
                state = jax.device_get(initial(recorder.stage))
                state = state.replace(extra={**state.extra, "path_mean": np.float32(0.3)})
            for name in ("r1", "path", "main"):
                calls[name, count] = recorder.call(name, state, pictures(11, BATCH))
    return calls


@pytest.mark.slow
def test_stage_one_is_the_same_without_groups_of_examples(memory_calls):
    one, two = (memory_calls["main", count] for count in (1, 2))
    assert_close(one, two, ("generator", "discriminator"))
    for name, value in leaves(one.after.extra).items():
        np.testing.assert_allclose(leaves(two.after.extra)[name], value, rtol=1e-4, atol=1e-6)
    assert_close(memory_calls["r1", 1], memory_calls["r1", 2], ("discriminator",))


def test_path_length_keeps_the_mean_of_the_whole_batch(memory_calls):
    """Each micro-batch compares with its own moved mean, a hundredth of the way from the other."""
    one, two = (memory_calls["path", count] for count in (1, 2))
    kept = [call.after.extra["path_mean"] for call in (one, two)]
    assert kept[0] != np.float32(0.3)
    np.testing.assert_allclose(kept[1], kept[0], rtol=1e-5)
    assert_close(one, two, ("generator",), scale=0.02)


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({"batch_size": 6}, ("config.batch_size = 6", "= 4")),
        ({"memory.batch_size": 6, "batch_size": 8}, ("config.memory.batch_size = 6", "= 4")),
        ({"memory.batch_size": 4, "batch_size": 8}, ("config.memory.batch_size = 4", "is 2", "4;")),
    ],
)
def test_batches_that_cannot_be_taken_apart_are_refused_with_both_numbers(fields, numbers):
    config = base_config("gm_srm")
    config.accumulation = 4
    check_config(config)
    config.update_from_flattened_dict(fields)
    with pytest.raises(UserError) as error:
        check_config(config)
    assert all(number in str(error.value) for number in (*numbers, "accumulation"))


@pytest.mark.parametrize("fields", [{"variant": "base"}, {"inpainting.begin_from": "facades-128"}])
def test_batches_of_a_stage_that_is_not_trained_are_not_looked_at(fields):
    config = base_config("gm_srm")
    config.accumulation, config.batch_size = 3, 6  # and memory.batch_size = 32
    with pytest.raises(UserError, match=r"config\.memory\.batch_size = 32 "):
        check_config(config)
    config.update_from_flattened_dict(fields)
    check_config(config)


@pytest.mark.slow
def test_terms_of_weight_zero_are_not_computed_and_have_no_discriminator():
    config = small_config(inpainting__perceptual_weight=0.0, inpainting__adversarial_weight=0.0)
    stage = inpainting_stage(config)
    state = jax.device_get(initial(stage, {"memory": {"kept": snapshot(config)}}))
    recorder = Recorder(stage)
    call = recorder.call("main", state, pictures(12, BATCH))
    assert set(call.after.variables) == set(call.after.optimizer) == {"network"}
    absent = ("perceptual", "adversarial", "discriminator", "logits")
    assert not [n for n, word in itertools.product(call.scalars, absent) if word in n]
    total = call.scalars["loss/reconstruction"] + 0.01 * call.scalars["loss/kl"]
    np.testing.assert_allclose(call.scalars["loss/total"], total, rtol=1e-5)
    assert stage.constants == {}
    text = jax.jit(stage.programs["main"]).lower(state, pictures(12, BATCH)).as_text()
    whole = inpainting_stage(small_config())
    batch = {**pictures(12, BATCH), **whole.constants}
    state = initial(whole, {"memory": {"kept": snapshot(config)}})
    both = jax.jit(whole.programs["main"]).lower(state, batch).as_text()
    # The patch discriminator alone is five convolutions, VGG-19 up to relu3_1 the same again.
    assert both.count("stablehlo.convolution") > text.count("stablehlo.convolution") + 30
