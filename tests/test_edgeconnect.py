"""EdgeConnect: sizes, signal at the start, what each stage looks at, moves and leaves alone."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict
from scipy.special import expit
from skimage.color import rgb2gray
from skimage.feature import canny as canny_reference

from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import apply_argument, base_config
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, TrainState
from gmsrm_jax.methods.edgeconnect import network
from gmsrm_jax.nn.losses import feature_matching_loss, hole_share_loss
from gmsrm_jax.nn.spectral import baked
from gmsrm_jax.nn.vgg import features, load_vgg
from gmsrm_jax.runtime.devices import data_mesh, to_devices, to_every_device
from gmsrm_jax.runtime.pixels import to_signed

EDGECONNECT = METHODS["edgeconnect"]
SIZE, BATCH = 32, 4
# A test runs its programs a few times, so XLA's slow optimisations do not pay.
compiled = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def small_config(**fields: Any) -> ConfigDict:
    """The local config with few channels."""
    config = apply_argument(base_config(), "edgeconnect,runlocal").unlock()
    config.batch_size = BATCH
    tiny = {"width": 4, "residual_blocks": 1, "discriminator_features": (4, 6, 8, 8)}
    for name, value in (tiny | fields).items():
        (config if name in config else config.edgeconnect)[name] = value
    check_config(config)
    return config.lock()


def paper_config() -> ConfigDict:
    """The defaults, without VGG-19, which no package has whole."""
    config = apply_argument(base_config(), "edgeconnect").unlock()
    config.edgeconnect.perceptual_weight = config.edgeconnect.style_weight = 0.0
    check_config(config)
    return config


def pictures(count: int = BATCH, seed: int = 0) -> dict[str, np.ndarray]:
    """Discs and slopes, uint8, with a hole of another place in each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    mask = np.zeros((count, SIZE, SIZE, 1), np.uint8)
    for index in range(count):
        row, column, radius = rng.integers(8, 24, 3)
        disc = np.hypot(rows - row, columns - column) < radius
        colours = rng.integers(0, 256, (2, 3))
        shade = rng.normal(0, 4, (SIZE, SIZE, 3)) + columns[..., None]
        image[index] = np.clip(np.where(disc[..., None], *colours) + shade, 0, 255)
        row, column = rng.integers(0, SIZE // 2, 2)
        mask[index, row : row + SIZE // 2, column : column + SIZE // 2] = 1
    return {"image": image, "mask": mask}


def stage_of(config: ConfigDict, name: str) -> Any:
    (spec,) = (spec for spec in EDGECONNECT.stages(config) if spec.name == name)
    return spec.build(Context(num_examples=16, validation=pictures(6)))


def handed(spec: Any, states: dict[str, TrainState]) -> dict[str, Any]:
    """What `StageSpec.after` promises."""
    return {
        name: {item: getattr(states[name], item) for item in items}
        for name, items in spec.after.items()
    }


def first_states(config: ConfigDict) -> dict[str, TrainState]:
    """The first state of every stage; "joint" begins with the first ones of the others."""
    states: dict[str, TrainState] = {}
    for number, spec in enumerate(EDGECONNECT.stages(config)):
        stage, given = stage_of(config, spec.name), handed(spec, states)
        key = jax.random.key(number, impl="unsafe_rbg")
        states[spec.name] = compiled(stage.init)(key, given)
    return states


@functools.cache
def plain() -> tuple[ConfigDict, dict[str, Any], dict[str, TrainState]]:
    config = small_config()
    stages = {spec.name: stage_of(config, spec.name) for spec in EDGECONNECT.stages(config)}
    return config, stages, first_states(config)


@functools.cache
def filling_weights() -> Any:
    config = small_config()
    return compiled(functools.partial(EDGECONNECT.init, config))(jax.random.key(3))


@functools.cache
def program(name: str) -> Any:
    return compiled(plain()[1][name].programs["main"])


def step(stage: Any, state: TrainState, batch: dict[str, np.ndarray], run: Any = None) -> Any:
    run = run or compiled(stage.programs["main"])
    return jax.device_get(run(state, {**batch, **stage.constants}))


def leaves(tree: Any) -> dict[str, np.ndarray]:
    return {"/".join(path): np.asarray(x) for path, x in traverse_util.flatten_dict(tree).items()}


def assert_same(first: Any, second: Any) -> None:
    first, second = leaves(first), leaves(second)
    assert first.keys() == second.keys()
    for name, leaf in first.items():
        np.testing.assert_array_equal(leaf, second[name], name)


def assert_near(first: Any, second: Any, scale: float) -> None:
    first, second = leaves(first), leaves(second)
    assert first.keys() == second.keys()
    for name, leaf in first.items():
        np.testing.assert_allclose(leaf, second[name], rtol=1e-3, atol=scale, err_msg=name)


def count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


# Sizes and shapes


def test_numbers_of_parameters_are_those_of_the_public_networks():
    config = paper_config()
    assert config.image_size == 256 and config.batch_size == 8
    weights = jax.eval_shape(lambda: EDGECONNECT.init(config, jax.random.key(0)))
    assert {name: list(tree) for name, tree in weights.items()} == {
        "edge": ["params"],
        "picture": ["params"],
    }
    assert count(weights["edge"]) == 10_761_089
    assert count(weights["picture"]) == 10_774_595


def test_discriminators_have_the_known_sizes_and_maps():
    config = paper_config()
    sides = [(128, 64), (64, 128), (32, 256), (31, 512), (30, 1)]
    for name, shown, parameters in (
        ("edges", (1, 1), 2_762_752),
        ("inpainting", (3,), 2_763_776),
    ):
        adversary = stage_of(config, name).adversary
        seen = [jax.ShapeDtypeStruct((2, 256, 256, channels), jnp.float32) for channels in shown]

        def judged(key, *seen, adversary=adversary):
            variables = adversary.module.init(key, *seen, update_stats=False)
            return variables["params"], adversary.judge(variables, seen, "outputs")[0]

        params, outputs = jax.eval_shape(judged, jax.random.key(0), *seen)
        assert count(params) == parameters
        assert [output.shape for output in outputs] == [(2, s, s, c) for s, c in sides]


def test_discriminators_are_undecided_at_the_start():
    _, stages, states = plain()
    adversary, batch = stages["inpainting"].adversary, pictures()
    unit = np.float32(batch["image"] / 255)
    logits, _ = compiled(adversary.judge)(states["inpainting"].variables["discriminator"], (unit,))
    assert np.abs(expit(np.asarray(logits)) - 0.5).max() < 0.2


# Networks


def test_a_zeroed_last_layer_paints_grey():
    config, _, _ = plain()
    variables = filling_weights()
    painter = variables["picture"]["params"]
    painter = {**painter, "out": jax.tree.map(jnp.zeros_like, painter["out"])}
    variables = {**variables, "picture": {"params": painter}}
    batch = pictures()
    filled = compiled(functools.partial(EDGECONNECT.fill, config))(
        variables, to_signed(batch["image"]), jnp.float32(batch["mask"]), {}
    )
    np.testing.assert_array_equal(filled, np.zeros(batch["image"].shape, np.float32))


@pytest.mark.parametrize("name", ["edges", "inpainting"])
def test_signal_at_the_start(name):
    """A spread output, and a gradient for every kernel."""
    _, _, states = plain()
    state, batch = states[name], pictures()
    if name == "edges":
        seen = jnp.concatenate([jnp.float32(batch["image"] / 255)[..., :2], batch["mask"]], -1)
        module, variables = network.edge_network(plain()[0]), baked(state.variables["edge"])
    else:
        seen = jnp.concatenate([jnp.float32(batch["image"] / 255), batch["mask"]], -1)
        module, variables = network.picture_network(plain()[0]), state.variables["picture"]
    raw, pull = compiled(lambda v: jax.vjp(lambda v: jnp.tanh(module.apply(v, seen)), v))(variables)
    assert np.std(raw) > 0.01
    gradient = leaves(pull(jnp.sign(raw) / raw.size)[0])
    norms = {n: np.linalg.norm(g) for n, g in gradient.items() if n.endswith("kernel")}
    assert len(norms) == 8 and min(norms.values()) > 1e-6


def test_kernels_are_drawn_with_a_deviation_of_002():
    _, _, states = plain()
    for name in ("edges", "inpainting"):
        for network_name, tree in states[name].variables.items():
            for leaf, value in leaves(tree["params"]).items():
                if leaf.endswith("kernel") and value.size > 500:
                    assert np.std(value) == pytest.approx(0.02, rel=0.1), (network_name, leaf)
                elif leaf.endswith("bias"):
                    assert not np.any(value)


def test_baked_edges_are_those_of_the_spectral_network():
    config, _, states = plain()
    variables = states["edges"].variables["edge"]
    assert len(leaves(variables["batch_stats"])) == 2 * 7
    seen = jnp.float32(np.random.default_rng(0).uniform(size=(2, SIZE, SIZE, 3)))
    expected = compiled(network.edge_network(config, spectral=True).apply)(variables, seen)
    plain_weights = baked(variables)
    found = compiled(network.edge_network(config).apply)(plain_weights, seen)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(found)).max() > 0.05
    # Each kernel but the last is divided by a number.
    for name, kernel in leaves(plain_weights["params"]).items():
        given = leaves(variables["params"])[name]
        ratio = np.linalg.norm(kernel) / max(np.linalg.norm(given), 1e-9)
        np.testing.assert_allclose(kernel, ratio * given, rtol=1e-4, atol=1e-7)
        assert (ratio == pytest.approx(1)) == (name == "out/kernel") or name.endswith("bias")


# Fillings


def edges_by_hand(config: ConfigDict, batch: dict[str, np.ndarray], known: bool) -> np.ndarray:
    """scikit-image's edges, by known pixels alone or by all."""
    found = [
        canny_reference(
            rgb2gray(x), config.edgeconnect.sigma, mask=m[..., 0] == 0 if known else None
        )
        for x, m in zip(batch["image"], batch["mask"], strict=True)
    ]
    return np.stack(found)[..., None].astype(np.float32)


def test_a_filling_is_g2_on_the_joined_edges():
    config, _, _ = plain()
    variables, batch = filling_weights(), pictures()
    image, mask = np.float64(batch["image"]) / 255, np.float64(batch["mask"])
    values = rgb2gray(image)[..., None]
    known = edges_by_hand(config, batch, known=True)
    assert known.sum() > 50 and (known * mask).sum() == 0
    seen = np.concatenate([values * (1 - mask) + mask, known, mask], -1)
    logits = compiled(network.edge_network(config).apply)(variables["edge"], jnp.float32(seen))
    edges = expit(np.float64(logits)) * mask + known * (1 - mask)
    seen = np.concatenate([image * (1 - mask) + mask, edges], -1)
    module = network.picture_network(config)
    expected = np.tanh(compiled(module.apply)(variables["picture"], jnp.float32(seen)))
    signed = to_signed(batch["image"])
    fill = compiled(functools.partial(EDGECONNECT.fill, config))
    filled = fill(variables, signed, jnp.float32(mask), {})
    np.testing.assert_allclose(filled, expected, atol=1e-4)
    # What stands in the hole is not looked at.
    other = np.where(mask > 0, np.float32(0.3), np.asarray(signed))
    np.testing.assert_array_equal(fill(variables, other, jnp.float32(mask), {}), filled)


@pytest.mark.parametrize("joint_edges", ["frozen", "trained"])
def test_every_end_gives_the_variables_that_fill(joint_edges):
    config = small_config(joint_edges=joint_edges)
    states = first_states(config)
    wanted = jax.eval_shape(lambda: EDGECONNECT.init(config, jax.random.key(0)))
    joint = states["joint"]
    given = EDGECONNECT.finish(config, joint.average, joint.kept)
    assert jax.tree.map(jnp.shape, given) == jax.tree.map(jnp.shape, wanted)
    frozen = {
        path[0] for path in traverse_util.flatten_dict(wanted) if EDGECONNECT.frozen(config, path)
    }
    assert frozen == ({"edge"} if joint_edges == "frozen" else set())
    assert set(joint.kept) == frozen
    assert_near(given["edge"], baked(states["edges"].average["edge"]), 1e-6)
    assert_same(given["picture"], states["inpainting"].average["picture"])


# Steps


@pytest.mark.parametrize("name", ["edges", "inpainting", "joint"])
def test_a_step_moves_both_players_and_nothing_else(name):
    _, stages, states = plain()
    stage, before = stages[name], jax.device_get(states[name])
    after, scalars = step(stage, before, pictures(), program(name))
    assert after.step == 1
    assert all(np.isfinite(value) for value in scalars.values())
    assert (
        set(after.variables)
        == set(before.variables)
        == {
            "edge" if name == "edges" else "picture",
            stage.judged,
        }
    )
    for network_name, tree in before.variables.items():
        moved = leaves(after.variables[network_name])
        for leaf, value in leaves(tree).items():
            # Biases before an instance norm have no effect, and so no gradient but rounding.
            if "bias" not in leaf:
                assert np.any(moved[leaf] != value), leaf
        # Adam's first step is the rate in every direction.
        layer = "params/conv_0/kernel" if network_name == stage.judged else "params/out/kernel"
        rate = (1e-5 if name == "joint" else 1e-4) * (0.1 if network_name == stage.judged else 1)
        change = np.abs(moved[layer] - leaves(tree)[layer])
        assert np.median(change) == pytest.approx(rate, rel=0.05)
    assert_same(after.kept, before.kept)
    for network_name, tree in after.average.items():
        assert_same(tree, after.variables[network_name])


def test_the_losses_of_the_edge_network():
    """Softplus and feature matching from the outputs of D1 before the step."""
    config, stages, states = plain()
    stage, state, batch = stages["edges"], states["edges"], pictures()
    mask, values = np.float32(batch["mask"]), np.float32(rgb2gray(batch["image"]))[..., None]
    true, known = (edges_by_hand(config, batch, known=k) for k in (False, True))
    seen = np.concatenate([values * (1 - mask) + mask, known, mask], -1)
    module = network.edge_network(config, spectral=True)
    logits = compiled(functools.partial(module.apply))(state.variables["edge"], seen)
    judge = compiled(functools.partial(stage.adversary.judge, method="outputs"))
    fake, _ = judge(state.variables[stage.judged], (values, jax.nn.sigmoid(logits)))
    real, renewed = judge(state.variables[stage.judged], (values, true))
    fake, real = ([np.float64(x) for x in outputs] for outputs in (fake, real))
    adversarial = np.log1p(np.exp(-fake[-1])).mean()
    matching = sum(np.abs(f - r).mean() for f, r in zip(fake, real, strict=True))
    assert len(fake) == 5
    discriminator = np.log1p(np.exp(fake[-1])).mean() + np.log1p(np.exp(-real[-1])).mean()
    after, scalars = step(stage, state, batch, program("edges"))
    assert scalars["loss/adversarial"] == pytest.approx(adversarial, rel=1e-4)
    assert scalars["loss/feature_matching"] == pytest.approx(matching, rel=1e-3)
    assert scalars["loss/total"] == pytest.approx(adversarial + 10 * matching, rel=1e-3)
    assert scalars["loss/edge_discriminator"] == pytest.approx(discriminator, rel=1e-4)
    assert_near(after.variables[stage.judged]["batch_stats"], renewed["batch_stats"], 1e-5)


def gram(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    flat = np.float64(x).reshape(n, h * w, c)
    return np.einsum("npi,npj->nij", flat, flat) / (h * w * c)


def test_the_losses_of_the_picture_network():
    config, stages, states = plain()
    stage, state, batch = stages["inpainting"], states["inpainting"], pictures()
    image, mask = np.float32(batch["image"] / 255), np.float32(batch["mask"])
    seen = np.concatenate([image * (1 - mask) + mask, edges_by_hand(config, batch, False)], -1)
    module = network.picture_network(config)
    logits = compiled(module.apply)(state.variables["picture"], jnp.float32(seen))
    raw = (np.tanh(np.asarray(logits)) + 1) / 2
    _, scalars = step(stage, state, batch, program("inpainting"))
    l1 = np.abs(np.float64(raw) - image).mean() / mask.mean()
    assert scalars["loss/l1"] == pytest.approx(l1, rel=1e-4)
    perceptual, style = ("relu1_1", "relu2_1", "relu3_1"), ("relu1_2", "relu2_2")
    vgg = load_vgg("bundled", perceptual, unit_input=True, field="edgeconnect.vgg")

    def maps(x, layers):
        signed = jnp.float32(2 * x - 1)
        return [np.asarray(m) for m in compiled(lambda x: features(vgg, x, layers))(signed)]

    pairs = zip(maps(raw, perceptual), maps(image, perceptual), strict=True)
    expected = sum(np.abs(f - r).mean() for f, r in pairs)
    assert scalars["loss/perceptual"] == pytest.approx(expected, rel=1e-3)
    pairs = zip(maps(raw * mask, style), maps(image * mask, style), strict=True)
    expected_style = sum(np.abs(gram(f) - gram(r)).mean() for f, r in pairs)
    assert scalars["loss/style"] == pytest.approx(expected_style, rel=1e-3)
    total = l1 + 0.1 * scalars["loss/adversarial"] + 0.1 * expected + 250 * expected_style
    assert scalars["loss/total"] == pytest.approx(total, rel=1e-3)


def test_hinge_is_the_other_form():
    config = small_config(adversarial_form="hinge", perceptual_weight=0.0, style_weight=0.0)
    stage = stage_of(config, "inpainting")
    assert not stage.constants
    state = plain()[2]["inpainting"]
    _, scalars = step(stage, state, pictures())
    fake, real = (scalars[f"logits/discriminator_{kind}"] for kind in ("fake", "real"))
    assert scalars["loss/adversarial"] == pytest.approx(-fake, rel=1e-4)
    # No logit is beyond the hinges yet.
    assert scalars["loss/discriminator"] == pytest.approx(2 - real + fake, rel=1e-4)
    assert {name for name in scalars if name.startswith("loss/")} == {
        "loss/l1",
        "loss/adversarial",
        "loss/discriminator",
        "loss/total",
    }


def test_micro_batches_give_the_same_step_of_the_edges():
    _, stages, states = plain()
    batch = pictures(seed=4)
    whole, scalars = step(stages["edges"], states["edges"], batch, program("edges"))
    parts = stage_of(small_config(accumulation=2), "edges")
    split, others = step(parts, states["edges"], batch)
    for key, value in scalars.items():
        assert others[key] == pytest.approx(value, rel=2e-3), key
    # Betas (0, 0.9): the first step is ± the rate wherever a gradient is not rounding alone.
    for network_name, moments in whole.optimizer.items():
        scale = 1e-4 * scalars[f"gradient/{network_name}"]
        first, second = moments[0].mu, split.optimizer[network_name][0].mu
        assert_near(first, second, float(scale))


def test_a_batch_over_four_devices_is_one_batch():
    """Canny's loop, too, ends for all devices when the last has no more to grow."""
    _, stages, states = plain()
    batch, mesh = pictures(seed=2), data_mesh()
    assert mesh.size == BATCH
    alone, scalars = step(stages["edges"], states["edges"], batch, program("edges"))
    there, others = jax.device_get(
        program("edges")(to_every_device(states["edges"], mesh), to_devices(batch, mesh))
    )
    for key, value in scalars.items():
        assert others[key] == pytest.approx(value, rel=1e-3), key
    for name, tree in alone.variables.items():
        assert_near(there.variables[name]["batch_stats"], tree["batch_stats"], 1e-5)


def test_the_joint_stage_leaves_frozen_edges_alone_and_goes_on_where_the_others_ended():
    _, stages, states = plain()
    advanced = dict(states)
    for name in ("edges", "inpainting"):
        advanced[name], _ = step(stages[name], states[name], pictures(), program(name))
    spec = EDGECONNECT.stages(plain()[0])[2]
    state = stages["joint"].init(jax.random.key(0), handed(spec, advanced))
    assert state.step == 0
    assert_same(state.variables, advanced["inpainting"].variables)
    assert state.optimizer["picture"][0].count == 1
    after, _ = step(stages["joint"], state, pictures(), program("joint"))
    assert_near(after.kept["edge"], baked(advanced["edges"].average["edge"]), 1e-6)
    assert_same(after.kept, state.kept)


def test_trained_edges_learn_from_the_paintings():
    config = small_config(joint_edges="trained")
    states = first_states(config)
    before, stage = jax.device_get(states["joint"]), stage_of(config, "joint")
    assert_same(before.variables["edge"], states["edges"].variables["edge"])
    after, scalars = step(stage, before, pictures())
    assert set(after.optimizer) == {"edge", "picture", "discriminator"}
    assert scalars["gradient/edge"] > 0
    assert_same(after.average["edge"], after.variables["edge"])
    for name, leaf in leaves(before.variables["edge"]).items():
        if "bias" not in name:
            assert np.any(leaves(after.variables["edge"])[name] != leaf), name


def test_l1_of_known_pixels_that_are_right_is_that_of_the_hole():
    mask = np.float32(pictures()["mask"])
    target = np.float32(pictures()["image"] / 255)
    for wider in (mask, np.float32(mask + np.roll(mask, 5, 1) > 0)):
        found = hole_share_loss(target + 0.25 * wider, target, wider.mean())
        assert float(found) == pytest.approx(0.25, rel=1e-5)
    assert np.isfinite(hole_share_loss(target + 0.1, target, jnp.zeros(())))


def test_feature_matching_has_targets_and_no_gradient_to_them():
    maps = [jnp.float32(np.random.default_rng(k).normal(size=(2, 4, 4, 3))) for k in range(2)]
    assert float(feature_matching_loss(maps, maps)) == 0
    shifted = [x + 0.5 for x in maps]
    assert float(feature_matching_loss(shifted, maps)) == pytest.approx(1.0, rel=1e-5)
    assert not any(np.any(g) for g in jax.grad(feature_matching_loss, argnums=1)(shifted, maps))
    assert all(np.any(g) for g in jax.grad(feature_matching_loss)(shifted, maps))


# Validation


def test_edges_are_scored_in_the_hole():
    config, stages, states = plain()
    stage, state = stages["edges"], states["edges"]
    scores = stage.validate(state)
    batch = stage.validation
    hole = batch["mask"][..., 0] > 0
    true = (edges_by_hand(config, batch, known=False)[..., 0] > 0) & hole
    variables = EDGECONNECT.finish(config, state.average, state.kept)
    edges = network.complete_edges(
        config, variables["edge"], to_signed(batch["image"]), jnp.float32(batch["mask"])
    )
    found = (np.asarray(edges)[..., 0] >= 0.5) & hole
    both = (found & true).sum()
    assert true.sum() > 20 and found.sum() > 20
    assert scores["validation/edge_recall"] == pytest.approx(both / true.sum(), abs=0.02)
    assert scores["validation/edge_precision"] == pytest.approx(both / found.sum(), abs=0.02)
    rows, columns = stage.panels(state)["edges"]
    assert columns == 4 and rows.shape == (16, SIZE, SIZE, 3) and rows.dtype == np.uint8
    np.testing.assert_array_equal(
        rows[3::4, ..., 0] > 0, edges_by_hand(config, batch, False)[:4, ..., 0]
    )


@pytest.mark.parametrize("name", ["inpainting", "joint"])
def test_paintings_are_scored_and_shown(name):
    _, stages, states = plain()
    scores = stages[name].validate(states[name])
    assert 3 < scores["validation/psnr"] < 60
    rows, columns = stages[name].panels(states[name])["fillings"]
    assert columns == 5 and rows.shape == (20, SIZE, SIZE, 3)


def test_short_formats_are_for_maps_alone():
    """Feature maps in bfloat16, losses and weights in float32; the step is about the same."""
    _, stages, states = plain()
    stage = stage_of(small_config(compute_dtype="bfloat16"), "edges")
    after, scalars = step(stage, states["edges"], pictures())
    assert {leaf.dtype for leaf in leaves(after.variables).values()} == {np.dtype(np.float32)}
    _, exact = step(stages["edges"], states["edges"], pictures(), program("edges"))
    for name in ("loss/adversarial", "loss/feature_matching", "loss/edge_discriminator"):
        assert scalars[name] == pytest.approx(float(exact[name]), rel=0.05), name
