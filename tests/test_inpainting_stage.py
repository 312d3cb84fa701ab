"""Stage 2: the hand-over, the frozen memory, the terms of Eq. 14, averages and validation."""

import functools

import jax
import numpy as np
import pytest
from small_networks import compiled
from small_stages import (
    BATCH,
    SIZE,
    Recorder,
    assert_same,
    assert_slope,
    initial,
    inpainting_stage,
    leaves,
    pictures,
    small_config,
    snapshot,
)

from gmsrm_jax.methods.variables import joined
from gmsrm_jax.nn.vgg import features
from gmsrm_jax.runtime.pixels import to_signed

STEPS = 6
MEMORY_LAYERS = {"constant", "conv_4", *(f"{k}_{r}" for r in (8, 16, 32) for k in ("up", "conv"))}


def begin(config):
    """A stage's recorder, what stage 1 gave it, and its first state."""
    stage, kept = inpainting_stage(config), snapshot(config)
    return (
        Recorder(stage),
        jax.device_get(kept),
        jax.device_get(initial(stage, {"memory": {"kept": kept}})),
    )


def train(recorder, state, steps):
    calls = []
    for step in range(steps):
        calls.append(recorder.call("main", state, pictures(10 + step, BATCH)))
        state = calls[-1].after
    return calls


@pytest.fixture(scope="module")
def plain():
    """GM-SRM with the encoder source and the paper's settings, eight steps long."""
    return begin(small_config(inpainting__ema=0.9))


@pytest.fixture(scope="module")
def calls(plain):
    recorder, _, state = plain
    return train(recorder, state, STEPS)


@pytest.fixture(scope="module")
def switched():
    """The other side of every switch, with noise strengths that are trained."""
    config = small_config(
        variant="gm_csv",
        model__noise_statistics="encoder",
        model__stem_skip=True,
        memory__code_source="mapping",
        inpainting__train_noise_strength=True,
        inpainting__discriminator_mask=True,
        inpainting__discriminator_image="composite",
        inpainting__perceptual_image="composite",
        inpainting__reconstruction_norm="region",
        inpainting__kl_reduction="sum",
        inpainting__schedule="cosine",
        inpainting__query_rate=0.5,
    )
    recorder, kept, state = begin(config)
    return recorder, kept, train(recorder, state, 3)


def test_encoder_source_hands_over_memory_encoder_and_first_query(plain):
    recorder, kept, state = plain
    assert recorder.stage.total_steps == 8
    network, given = state.variables["network"]["params"], kept["generator"]["params"]
    assert_same(network["encoder"], given["encoder"])
    assert_same(network["query_4"], given["query_4"])
    memory = state.kept["network"]["params"]["memory"]
    assert_same(memory, {name: given["memory"][name] for name in MEMORY_LAYERS})
    assert_same(state.average["network"], state.variables["network"])
    for zero in ("query_8", "query_16", "statistics_4", "statistics_16"):
        assert not np.any(network[zero]["dense"]["kernel"])


def test_mapping_source_hands_over_memory_and_average_code(switched):
    _, kept, calls = switched
    before = calls[0].before
    network, frozen = before.variables["network"]["params"], before.kept["network"]["params"]
    memory, given = joined(network, frozen)["memory"], kept["generator"]["params"]["memory"]
    assert_same(memory, {name: given[name] for name in MEMORY_LAYERS})
    np.testing.assert_array_equal(frozen["average_code"], kept["code_average"])
    assert not np.any(network["query_4"]["dense"]["kernel"])


def test_frozen_memory_keeps_every_bit_and_has_no_optimizer_slot(calls):
    first, last = calls[0].before, calls[-1].after
    assert_same(first.kept, last.kept)
    assert set(last.kept["network"]["params"]) == {"memory"}
    for network in ("network", "discriminator"):
        weights = leaves(last.variables[network]["params"])
        slots = [leaf for leaf in leaves(last.optimizer[network]).values() if leaf.ndim]
        scalars = [leaf for leaf in weights.values() if not leaf.ndim]
        assert not scalars  # so that every slot without an axis is a count
        assert sum(s.size for s in slots) == 2 * sum(w.size for w in weights.values())
        assert len(slots) == 2 * len(weights)
    assert not any("memory" in name for name in leaves(last.variables["network"]["params"]))


def test_everything_else_moves(calls):
    first, last = calls[0].before, calls[-1].after
    for network in ("network", "discriminator"):
        before, after = (
            leaves(first.variables[network]["params"]),
            leaves(last.variables[network]["params"]),
        )
        still = [name for name in before if np.all(before[name] == after[name])]
        # Four squeeze units may all be dead, and then their attention has no gradient.
        assert not [name for name in still if "kernel" in name and "attention" not in name]
        assert len(still) < len(before) / 4


def test_only_noise_strengths_move_with_their_switch(switched):
    _, _, calls = switched
    first, last = calls[0].before, calls[-1].after
    assert_same(first.kept, last.kept)
    before, after = (
        leaves(state.variables["network"]["params"]["memory"]) for state in (first, last)
    )
    assert len(before) == len(MEMORY_LAYERS) - 1
    assert all("noise_strength" in name for name in before)
    assert all(before[name] != after[name] for name in before)
    assert not any("noise_strength" in name for name in leaves(last.kept))
    weights = leaves(last.variables["network"]["params"])
    slots = sum(leaf.size for leaf in leaves(last.optimizer["network"]).values())
    assert slots - 2 * sum(w.size for w in weights.values()) in (1, 2)  # counts


def test_rate_falls_over_the_second_half_and_bounds_the_first_step(calls):
    wanted = [2e-4 * min(1.0, (8 - step) / 4) for step in range(STEPS)]
    rates = [call.scalars["optimizer/learning_rate"] for call in calls]
    np.testing.assert_allclose(rates, wanted, rtol=1e-5)
    for network in ("network", "discriminator"):
        before, after = (
            leaves(calls[0].before.variables[network]["params"]),
            leaves(calls[0].after.variables[network]["params"]),
        )
        steps = np.concatenate([np.abs(after[name] - before[name]).ravel() for name in before])
        assert steps.max() < 2e-4 * 1.001
        assert np.median(steps[steps > 0]) == pytest.approx(2e-4, rel=0.05)


def test_codes_and_statistics_have_their_share_of_the_rate(switched):
    _, _, calls = switched
    before, after = (
        leaves(s.variables["network"]["params"]) for s in (calls[0].before, calls[0].after)
    )
    for heads, rate in ((True, 1e-4), (False, 2e-4)):
        steps = [
            np.abs(after[name] - before[name]).max()
            for name in before
            if ("query_" in name or "statistics_" in name) == heads
        ]
        assert max(steps) == pytest.approx(rate, rel=1e-2)


def test_average_moves_by_its_decay(calls):
    for call in calls:
        old, new = leaves(call.before.average), leaves(call.after.average)
        weights = leaves({"network": call.after.variables["network"]})
        for name in new:
            expected = 0.9 * old[name].astype(np.float64) + 0.1 * weights[name]
            np.testing.assert_allclose(new[name], expected, rtol=1e-4, atol=1e-6)


def without_noise(state):
    """The state with noise strengths of 0, so that no draw of the step shows."""

    def quiet(path, leaf):
        return np.zeros_like(leaf) if path[-1].key == "noise_strength" else leaf

    return state.replace(kept=jax.tree_util.tree_map_with_path(quiet, state.kept))


def judged(discriminator, state, *inputs):
    apply = compiled(
        functools.partial(discriminator.apply, update_stats=True, mutable=["batch_stats"])
    )
    logits, renewed = apply(state.variables["discriminator"], *inputs)
    return np.asarray(logits, np.float64), jax.device_get(renewed["batch_stats"])


def test_terms_of_the_objective_are_those_of_equation_14(plain, calls):
    recorder, stage, batch = plain[0], plain[0].stage, pictures(30, BATCH)
    state = without_noise(calls[2].after)
    call = recorder.call("main", state, batch)
    image, mask = np.asarray(to_signed(batch["image"])), batch["mask"].astype(np.float32)
    params = joined(state.variables["network"]["params"], state.kept["network"]["params"])
    noise = [np.zeros((BATCH, r, r, 1), np.float32) for r in (4, 8, 8, 16, 16, 32, 32)]
    filled = compiled(stage.network.apply)({"params": params}, image, mask, noise)
    error = np.abs(np.asarray(filled.image, np.float64) - image)
    taps = compiled(functools.partial(features, taps=stage.layers))
    seen, target = (taps(stage.constants["vgg"], x) for x in (filled.image, image))
    fake, _ = judged(stage.adversary.module, state, filled.image)
    real, renewed = judged(stage.adversary.module, state, image)
    mean, log_variance = (np.asarray(x, np.float64) for x in (filled.mean, filled.log_variance))
    expected = {
        "reconstruction": (error * (1 - mask)).mean() + 10 * (error * mask).mean(),
        "perceptual": sum(
            np.abs(np.asarray(s - t)).mean() for s, t in zip(seen, target, strict=True)
        ),
        "adversarial": -fake.mean(),
        "kl": 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).mean(),
        "discriminator": np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean(),
    }
    assert expected["kl"] > 0
    for name, value in expected.items():
        # After so few steps the divergence is a few float32 steps from 0.
        np.testing.assert_allclose(call.scalars[f"loss/{name}"], value, rtol=1e-3, atol=2e-8)
    weights = {"reconstruction": 1.0, "perceptual": 0.1, "adversarial": 0.01, "kl": 0.01}
    total = sum(weight * expected[name] for name, weight in weights.items())
    np.testing.assert_allclose(call.scalars["loss/total"], total, rtol=1e-3)
    # One power iteration a step.
    for name, value in leaves(call.after.variables["discriminator"]["batch_stats"]).items():
        np.testing.assert_allclose(value, leaves(renewed)[name], rtol=1e-4, atol=1e-5)


def test_network_descends_the_whole_objective(plain, calls):
    recorder, _, first = plain
    # Weights of a later step, where codes and statistics are no longer zero.
    state = calls[-1].after.replace(optimizer=first.optimizer)
    assert_slope(
        lambda state: recorder.call("main", state, pictures(32, BATCH)),
        state,
        "network",
        lambda scalars: scalars["loss/total"],
        b1=0.5,
    )


def test_total_weighs_every_switched_term(switched):
    _, _, calls = switched
    for call in calls:
        terms = {name.removeprefix("loss/"): value for name, value in call.scalars.items()}
        total = (
            terms["reconstruction"]
            + 0.1 * terms["perceptual"]
            + 0.01 * terms["adversarial"]
            + 0.01 * terms["kl"]
        )
        np.testing.assert_allclose(terms["total"], total, rtol=1e-5)


def test_composites_of_pictures_without_a_hole_are_the_pictures(switched):
    recorder, _, calls = switched
    batch = {**pictures(33, BATCH), "mask": np.zeros((BATCH, SIZE, SIZE, 1), np.uint8)}
    scalars = recorder.call("main", calls[-1].after, batch).scalars
    assert scalars["loss/perceptual"] < 1e-4
    assert scalars["logits/discriminator_fake"] == pytest.approx(
        scalars["logits/discriminator_real"], abs=1e-4
    )
    assert scalars["loss/reconstruction"] > 0.1
    with_hole = calls[-1].scalars
    assert with_hole["loss/perceptual"] > 0.01
    assert (
        abs(with_hole["logits/discriminator_fake"] - with_hole["logits/discriminator_real"]) > 1e-3
    )


def test_step_is_a_function_of_state_and_batch(plain, calls):
    recorder = plain[0]
    again = recorder.call("main", calls[3].before, pictures(13, BATCH))
    assert_same(again.after, calls[3].after)
    later = recorder.call("main", calls[3].before.replace(step=np.int32(40)), pictures(13, BATCH))
    assert later.scalars["loss/total"] != calls[3].scalars["loss/total"]


def test_validation_scores_composites(plain, calls):
    stage, state = plain[0].stage, calls[-1].after
    given = pictures(1, 6)
    raw = stage.fill(state, given["image"], given["mask"])
    assert raw.shape == (6, SIZE, SIZE, 3)
    assert raw.dtype == np.uint8
    scores = stage.validate(state)
    assert stage.keep(state, scores) is state
    truth, mask = given["image"].astype(np.float64), given["mask"].astype(np.float64)
    error = (raw - truth) * mask
    expected = (10 * np.log10(255**2 / np.square(error).mean((1, 2)))).mean()
    np.testing.assert_allclose(scores["validation/psnr"], expected, atol=0.01)
    hole = np.abs(error).sum() / (3 * mask.sum())
    np.testing.assert_allclose(scores["validation/hole_l1"], hole, rtol=1e-3)


def test_fillings_use_the_average_and_do_not_depend_on_the_batch(plain, calls):
    stage, state = plain[0].stage, calls[-1].after
    given = pictures(2, 6)
    whole = stage.fill(state, given["image"], given["mask"])
    part = stage.fill(state, given["image"][:3], given["mask"][:3])
    assert np.abs(part.astype(int) - whole[:3]).max() <= 1
    averaged = state.replace(variables=calls[0].before.variables)
    assert_same(stage.fill(averaged, given["image"], given["mask"]), whole)
    other = state.replace(average=calls[0].before.average)
    moved = stage.fill(other, given["image"], given["mask"])
    assert np.abs(moved.astype(int) - whole).max() > 1
    seen = given["image"] * (1 - given["mask"])
    np.testing.assert_array_equal(stage.fill(state, seen, given["mask"]), whole)


def test_panels_show_input_mask_output_composite_and_truth(plain, calls):
    images, columns = plain[0].stage.panels(calls[-1].after)["fillings"]
    assert images.dtype == np.uint8
    assert images.shape == (4 * 5, SIZE, SIZE, 3)
    assert columns == 5
    given = pictures(1, 6)
    held, shown, raw, composite, truth = images[:5]
    mask = given["mask"][0] > 0
    np.testing.assert_array_equal(truth, given["image"][0])
    np.testing.assert_array_equal(held, np.where(mask, 127, truth))
    np.testing.assert_array_equal(shown, np.where(mask, 255, 0).repeat(3, 2))
    np.testing.assert_array_equal(composite, np.where(mask, raw, truth))


def test_perceptual_term_sees_a_square_of_each_picture_that_meets_the_hole():
    """The mean over squares that lie where the step drew them, and another place each step."""
    config = small_config(
        variant="base", inpainting__perceptual_crop=16, inpainting__adversarial_weight=0.0
    )
    stage, batch = inpainting_stage(config), pictures(40, BATCH)
    state = jax.device_get(initial(stage))
    call = Recorder(stage).call("main", state, batch)
    assert "loss/adversarial" not in call.scalars
    assert set(call.after.variables) == {"network"}
    image, mask = np.asarray(to_signed(batch["image"])), batch["mask"].astype(np.float32)
    filled = compiled(stage.network.apply)(state.variables["network"], image, mask, []).image
    places = [
        np.asarray(stage._parts(state.replace(step=step), batch)["corner"]) for step in (0, 1)
    ]
    assert np.any(places[0] != places[1])

    def cut(pictures):
        return np.stack(
            [x[r : r + 16, c : c + 16] for x, (r, c) in zip(pictures, places[0], strict=True)]
        )

    assert (cut(mask).sum((1, 2, 3)) > 0).all()
    taps = compiled(functools.partial(features, taps=stage.layers))
    seen, target = (taps(stage.constants["vgg"], cut(np.asarray(x))) for x in (filled, image))
    wanted = sum(np.abs(np.asarray(s - t)).mean() for s, t in zip(seen, target, strict=True))
    np.testing.assert_allclose(call.scalars["loss/perceptual"], wanted, rtol=1e-3)
