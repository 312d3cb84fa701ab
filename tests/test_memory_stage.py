"""Stage 1: what each program moves and by how much, ADA, averages, and the snapshot it keeps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import compiled
from small_stages import (
    BATCH,
    SIZE,
    Recorder,
    abstract_memory,
    assert_same,
    assert_slope,
    initial,
    leaves,
    memory_stage,
    pictures,
    small_config,
)

from gmsrm_jax.methods.gm_srm import augment
from gmsrm_jax.methods.gm_srm.stage_1_programs import MemoryPrograms
from gmsrm_jax.runtime.pixels import to_signed

STEPS = 4


@pytest.fixture(scope="module")
def config():
    return small_config(
        memory__augment="ada",
        memory__ada_interval=2,
        memory__ada_kimg=0.1,
        memory__ema_rampup=5.0,
        memory__noise_strength_init=0.1,
        memory__reconstruction_weight=0.5,
    )


@pytest.fixture(scope="module")
def recorder(config):
    """The stage with an ADA that one can follow by hand: it darkens every image by p."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment, "draw_ada", lambda key, count, size, p: jnp.full((count,), p))
        patch.setattr(
            augment, "ada_augment", lambda p, images: images * (1.0 - p)[:, None, None, None]
        )
        yield Recorder(memory_stage(config))


@pytest.fixture(scope="module")
def run(recorder):
    """The lazy programs on the first state, then main steps from p = 0.5."""
    state = jax.device_get(initial(recorder.stage))
    calls = {"r1": recorder.call("r1", state, pictures(10, BATCH))}
    calls["path"] = recorder.call("path", calls["r1"].after, pictures(10, BATCH))
    state = calls["path"].after
    state = state.replace(extra={**state.extra, "ada_p": np.float32(0.5)})
    for step in range(STEPS):
        calls[step] = recorder.call("main", state, pictures(10 + step, BATCH))
        state = calls[step].after
    return calls


def moved(before, after) -> dict[str, np.ndarray]:
    """Largest change of each leaf."""
    return {
        name: np.abs(new - old).max()
        for (name, new), old in zip(leaves(after).items(), leaves(before).values(), strict=True)
    }


@pytest.mark.parametrize(
    ("program", "network", "part", "measure"),
    [
        ("r1", "discriminator", "logit", lambda s: 16 * s["loss/r1"]),
        ("path", "generator", "rgb", lambda s: 4 * s["loss/path_length"]),
        ("main", "generator", "", lambda s: s["loss/generator"] + 0.5 * s["loss/reconstruction"]),
        ("main", "discriminator", "", lambda s: s["loss/discriminator"]),
    ],
    ids=["r1", "path", "generator", "discriminator"],
)
def test_each_network_descends_its_loss_weighted_by_the_interval(
    recorder, run, program, network, part, measure
):
    assert_slope(
        lambda state: recorder.call(program, state, pictures(15, BATCH)),
        run["r1"].before,
        network,
        measure,
        b1=0.0,
        part=part,
    )


@pytest.fixture(scope="module")
def silent(recorder, run):
    """The first state without noise, and a program for what its networks make of a batch."""

    def quiet(path, leaf):
        return np.zeros_like(leaf) if path[-1].key == "noise_strength" else leaf

    state = run["r1"].before
    state = state.replace(variables=jax.tree_util.tree_map_with_path(quiet, state.variables))
    generator, discriminator = recorder.stage.generator, recorder.stage.discriminator
    latent = np.zeros((BATCH, 8), np.float32)
    noise = [np.zeros((BATCH, r, r, 1), np.float32) for r in (4, 8, 8, 16, 16, 32, 32)]

    @compiled
    def made(image, mask, p):
        variables = state.variables
        fake = generator.apply(variables["generator"], image, mask, latent, noise)
        seen = [(1 - p) * fake, (1 - p) * image]
        return fake, *(discriminator.apply(variables["discriminator"], x) for x in seen)

    def make(batch, p):
        image = to_signed(batch["image"])
        results = made(image, batch["mask"].astype(np.float32), p)
        return image, *(np.asarray(x, np.float64) for x in results)

    return state, make


def test_losses_of_the_main_step_are_logistic(recorder, silent):
    """With equal examples and without noise neither mixing nor a draw matters."""
    state, make = silent
    batch = {name: values.repeat(BATCH, 0) for name, values in pictures(16, 1).items()}
    state = state.replace(extra={**state.extra, "ada_p": np.float32(0.25)})
    call = recorder.call("main", state, batch)
    image, fake, fake_logits, real_logits = make(batch, 0.25)
    real_loss, fake_loss = np.log1p(np.exp(-real_logits)), np.log1p(np.exp(fake_logits))
    values = {
        "loss/generator": np.log1p(np.exp(-fake_logits)).mean(),
        "loss/discriminator": (real_loss + fake_loss).mean(),
        "loss/reconstruction": np.abs(fake - image).mean(),
        "logits/real": real_logits.mean(),
        "logits/fake": fake_logits.mean(),
        "ada/r_t": np.sign(real_logits).mean(),
    }
    for name, value in values.items():
        np.testing.assert_allclose(call.scalars[name], value, rtol=2e-3, atol=1e-5, err_msg=name)


def test_reconstruction_counts_examples_with_their_own_codes_only(recorder, silent):
    """It is the mean error of the examples that were not mixed, 0 where all were."""
    state, make = silent
    batch = pictures(17, BATCH)
    image, fake, _, _ = make(batch, 0.0)
    error = np.abs(fake - image).mean((1, 2, 3))
    subsets = [k for size in (1, 2, 3, 4) for k in itertools.combinations(range(BATCH), size)]
    found = []
    for step in range(12):
        call = recorder.call("main", state.replace(step=np.int32(step)), batch)
        found.append(float(call.scalars["loss/reconstruction"]))
    means = [0.0, *[error[list(own)].mean() for own in subsets]]
    assert all(min(abs(value - mean) for mean in means) < 1e-5 for value in found)
    assert 0.0 in found
    assert max(found) > 0


def test_due_runs_the_lazy_programs_on_their_intervals_and_main_last():
    stage = memory_stage(small_config())
    due = [stage.due(step) for step in range(33)]
    assert [step for step, names in enumerate(due) if "r1" in names] == [0, 16, 32]
    assert [step for step, names in enumerate(due) if "path" in names] == list(range(0, 33, 4))
    assert all(names[-1] == "main" and names.count("main") == 1 for names in due)
    assert stage.total_steps == 32  # 0.128 kimg in batches of 4
    without = memory_stage(small_config(memory__r1_interval=0, memory__path_interval=0))
    assert set(without.programs) == {"main"}
    assert {without.due(step) for step in range(33)} == {("main",)}


def test_everything_measured_is_finite_and_every_state_too(run):
    for call in run.values():
        for name, value in {**leaves(call.after), **call.scalars}.items():
            assert np.all(np.isfinite(value)) or name.startswith(".kept['distance']")


def test_each_program_moves_its_own_part(run):
    for name, still in (("r1", "generator"), ("path", "discriminator")):
        call = run[name]
        for part in ("variables", "optimizer"):
            before, after = getattr(call.before, part), getattr(call.after, part)
            assert_same(before[still], after[still])
        assert_same(call.before.average, call.after.average)
        assert call.after.step == call.before.step
    assert_same(run["r1"].before.extra, run["r1"].after.extra)
    for step in range(STEPS):
        assert run[step].after.step == step + 1
        assert_same(run[step].before.kept, run[step].after.kept)
        for network in ("generator", "discriminator"):
            before, after = (
                state.variables[network] for state in (run[step].before, run[step].after)
            )
            changes = moved(before, after)
            # Four squeeze units may all be dead, and then their attention has no gradient.
            kernels = {k: v for k, v in changes.items() if "kernel" in k and "attention" not in k}
            assert kernels
            assert not [name for name, change in kernels.items() if change == 0]


def test_first_steps_have_the_lazy_rates(run):
    """With β1 = 0 Adam's first step is the rate times the gradient's sign."""

    def typical(call, network, *parts):
        changes = [
            np.abs(new - old).ravel()
            for (name, new), old in zip(
                leaves(call.after.variables[network]).items(),
                leaves(call.before.variables[network]).values(),
                strict=True,
            )
            if not parts or any(f"['{part}']" in name for part in parts)
        ]
        return np.median(np.concatenate(changes)), max(c.max() for c in changes)

    for found, rate in (
        (typical(run["r1"], "discriminator"), 0.0025 * 16 / 17),
        (typical(run["path"], "generator", "memory"), 0.0025 * 4 / 5),
        (typical(run["path"], "generator", "encoder", "query_4"), 2e-4 * 4 / 5),
    ):
        assert found[0] == pytest.approx(rate, rel=0.01)
        # Equalised weights are of size 1 / rate, so a step of theirs is rounded to a per mille.
        assert found[1] < rate * 1.01


def test_lazy_and_main_steps_share_one_optimizer_state(run):
    def counts(state, network):
        return {
            int(leaf)
            for name, leaf in leaves(state.optimizer[network]).items()
            if name.endswith(".count")
        }

    for network in ("generator", "discriminator"):
        assert counts(run[0].before, network) == {1}
        assert counts(run[STEPS - 1].after, network) == {1 + STEPS}


def test_r1_has_the_weight_of_stylegan2_ada(recorder, run):
    """γ = 0.0002 · size² / batch, times half the squared gradient through the augmentation."""
    images = to_signed(pictures(10, BATCH)["image"])
    state = run["r1"].before
    variables, discriminator = state.variables["discriminator"], recorder.stage.discriminator
    slope = compiled(jax.grad(lambda x: discriminator.apply(variables, 0.75 * x).sum()))
    penalty = 0.5 * np.square(np.asarray(slope(images), np.float64)).sum() / BATCH
    state = state.replace(extra={**state.extra, "ada_p": np.float32(0.25)})
    call = recorder.call("r1", state, pictures(10, BATCH))
    expected = 0.0002 * SIZE**2 / BATCH * penalty
    np.testing.assert_allclose(call.scalars["loss/r1"], expected, rtol=1e-3)


def test_path_mean_moves_by_its_decay(run):
    mean = run["path"].after.extra["path_mean"]
    np.testing.assert_allclose(run["path"].scalars["path/mean_length"], mean)
    length = mean / 0.01  # from 0
    assert length > 0
    # Weight 2 times a mean square, which is at least the square of the mean.
    assert run["path"].scalars["loss/path_length"] >= 2 * (length - mean) ** 2 * (1 - 1e-4)


def test_average_follows_half_life_and_ramp(config, run):
    for step in range(STEPS):
        call = run[step]
        life = min(config.memory.ema_kimg * 1000, 5.0 * BATCH * (step + 1))
        decay = 0.5 ** (BATCH / life)
        for name, new in leaves(call.after.average).items():
            old = leaves(call.before.average)[name].astype(np.float64)
            weights = leaves({"generator": call.after.variables["generator"]})[name]
            np.testing.assert_allclose(
                new, decay * old + (1 - decay) * weights, rtol=1e-4, atol=1e-6
            )


def test_average_code_follows_the_mean_code(recorder, run):
    generator = recorder.stage.generator
    codes = compiled(
        lambda variables, image, mask: generator.apply(
            variables, image, mask, jnp.zeros((BATCH, 8)), method="codes"
        )
    )
    for step in (0, 1):
        call, batch = run[step], pictures(10 + step, BATCH)
        found = codes(
            call.before.variables["generator"],
            to_signed(batch["image"]),
            batch["mask"].astype(np.float32),
        )
        assert found.shape == (BATCH, 4, 8)
        np.testing.assert_array_equal(found[:, 0], found[:, 3])
        mean = np.asarray(found)[:, 0].mean(0)
        old = call.before.extra["code_average"]
        np.testing.assert_allclose(
            call.after.extra["code_average"], 0.995 * old + 0.005 * mean, rtol=1e-3, atol=1e-6
        )


def test_ada_moves_by_the_mean_sign_over_its_interval(recorder, run):
    signs = [run[step].scalars["ada/r_t"] for step in range(STEPS)]
    p = 0.5
    for step in range(STEPS):
        if step % 2:
            p += np.sign(np.mean(signs[step - 1 : step + 1]) - 0.6) * 2 * BATCH / 100
        np.testing.assert_allclose(run[step].after.extra["ada_p"], p, rtol=1e-5)
        np.testing.assert_allclose(run[step].scalars["ada/p"], p, rtol=1e-5)
        assert run[step].after.extra["ada_count"] == (step + 1) % 2
    # Earlier signs of the interval count: nine of them decide against the tenth.
    state = run[1].before
    for earlier, direction in ((-9.0, -1), (9.0, 1)):
        extra = {**state.extra, "ada_sign": np.float32(earlier), "ada_count": np.float32(9)}
        call = recorder.call("main", state.replace(extra=extra), pictures(11, BATCH))
        assert call.scalars["ada/p"] == pytest.approx(0.5 + direction * 0.08, rel=1e-5)
        assert call.after.extra["ada_sign"] == 0


def test_main_step_is_a_function_of_state_and_batch(recorder, run):
    again = recorder.call("main", run[2].before, pictures(12, BATCH))
    assert_same(again.after, run[2].after)
    later = run[2].before.replace(step=np.int32(40))
    other = recorder.call("main", later, pictures(12, BATCH))
    assert other.scalars["loss/generator"] != run[2].scalars["loss/generator"]


def test_noise_strengths_and_losses_are_measured(run):
    names = set(run[0].scalars)
    layers = ["conv_4", *[f"{kind}_{r}" for r in (8, 16, 32) for kind in ("up", "conv")]]
    assert {f"noise_strength/{layer}" for layer in layers} <= names
    assert {"loss/generator", "loss/discriminator", "loss/reconstruction", "ada/r_t"} <= names
    params = run[0].after.variables["generator"]["params"]["memory"]
    np.testing.assert_array_equal(
        run[0].scalars["noise_strength/up_16"], params["up_16"]["noise_strength"]
    )


@pytest.mark.parametrize("trained", [True, False])
def test_noise_strengths_move_only_if_they_are_trained(trained):
    programs = MemoryPrograms(small_config(memory__train_noise_strength=trained))
    state = abstract_memory(small_config())
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), state.variables["generator"]["params"])
    optimizer = programs.generator_optimizer
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    still = {name for name, update in leaves(updates).items() if not np.any(update)}
    strengths = {name for name in leaves(updates) if "noise_strength" in name}
    assert len(strengths) == 7  # two each at 8, 16 and 32 px, and one at 4 px
    assert still == (set() if trained else strengths)


def test_validation_keeps_the_nearest_snapshot(recorder, run, monkeypatch):
    stage = recorder.stage
    asked = []

    def distances(values):
        left = iter(values)

        def distance(samples):
            asked.append(samples)
            return next(left)

        return distance

    monkeypatch.setattr(stage, "distance", distances([3.0, 1.0, 2.0, float("nan")]))
    state = jax.tree.map(jnp.array, run[0].after)
    kept = []
    for step in range(4):
        scores = stage.validate(state)
        state = stage.keep(state, scores)
        kept.append((float(scores["validation/vgg_distance"]), int(state.kept["step"])))
        best = {0: 3.0}.get(step, 1.0)
        assert scores["validation/best_vgg_distance"] == best == state.kept["distance"]
        if step < 2:
            assert_same(state.kept["generator"], state.average["generator"])
            assert_same(state.kept["code_average"], state.extra["code_average"])
        # The kept weights survive a step that reuses the state's memory.
        state, _ = recorder.programs["main"](state, pictures(20 + step, BATCH))
    assert [step for _, step in kept] == [1, 2, 2, 2]
    assert [samples.shape for samples in asked] == [(6, SIZE, SIZE, 3)] * 4
    assert np.any(asked[0] != asked[1])


def test_panels_are_pictures(recorder, run):
    panels = recorder.stage.panels(run[0].after)
    assert set(panels) == {"samples", "asked_with"}
    for images, columns in panels.values():
        assert images.dtype == np.uint8
        assert images.shape == (BATCH, SIZE, SIZE, 3)
        assert images.std() > 0
        assert columns == 8
