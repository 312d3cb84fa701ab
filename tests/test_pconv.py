"""PConv: its size, its signal at the start, what it looks at, its two programs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict
from partial_references import reference_network
from small_networks import compiled

from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import apply_argument, base_config
from gmsrm_jax.foreign.networks import TORCHVISION
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, TrainState
from gmsrm_jax.methods.filler import Filler
from gmsrm_jax.methods.pconv import PConvNetwork, PConvStage, build_network
from gmsrm_jax.nn.vgg import features, load_poolings, normalise
from gmsrm_jax.runtime.devices import data_mesh, to_devices, to_every_device
from gmsrm_jax.runtime.errors import UserError

PCONV = METHODS["pconv"]
SIZE, BATCH = 32, 4
WITHOUT_VGG = {"perceptual_weight": 0.0, "style_weight": 0.0}
FLAT = {"levels": 2, **WITHOUT_VGG}  # compiles in half the time


def small_config(size: int = SIZE, **fields: Any) -> ConfigDict:
    """The local config with few channels."""
    config = apply_argument(base_config(), "pconv,runlocal").unlock()
    config.image_size, config.batch_size, config.pconv.width = size, BATCH, 4
    for name, value in fields.items():
        (config if name in config else config.pconv)[name] = value
    check_config(config)
    return config.lock()


def pictures(count: int = BATCH, size: int = SIZE) -> dict[str, np.ndarray]:
    """Noise over a slope, uint8, with a hole of another place in each."""
    rng = np.random.default_rng(0)
    slope = np.linspace(40, 200, size)[None, None, :, None] * np.ones((count, size, 1, 3))
    image = np.clip(slope + rng.normal(0, 30, (count, size, size, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros((count, size, size, 1), np.uint8)
    for index in range(count):
        row, column = rng.integers(0, size // 2, 2)
        mask[index, row : row + size // 2, column : column + size // 2] = 1
    return {"image": image, "mask": mask}


def stage_of(config: ConfigDict) -> PConvStage:
    return PConvStage(config, Context(num_examples=16, validation=pictures(6)))


def first_state(stage: PConvStage) -> TrainState:
    return compiled(lambda key: stage.init(key, {}))(jax.random.key(0, impl="unsafe_rbg"))


@pytest.fixture(scope="module")
def stage() -> PConvStage:
    return stage_of(small_config())


@pytest.fixture(scope="module")
def programs(stage: PConvStage) -> dict[str, Any]:
    return {name: compiled(program) for name, program in stage.programs.items()}


@pytest.fixture(scope="module")
def state(stage: PConvStage) -> TrainState:
    return first_state(stage)


def applied(stage: PConvStage, variables: Any, shown: Any, mask: Any) -> tuple[Any, Any]:
    """Output by the batch's statistics, and by the running ones."""

    def both(network: Any, shown: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        parts = ("encoder", "decoder")
        by_batch, _ = stage.network.apply(network, shown, mask, parts, mutable=["batch_stats"])
        return by_batch, stage.network.apply(network, shown, mask)

    return compiled(both)(variables["network"], shown, mask)


def leaves(tree: Any) -> dict[str, np.ndarray]:
    return {"/".join(path): np.asarray(x) for path, x in traverse_util.flatten_dict(tree).items()}


@pytest.mark.parametrize(
    ("levels", "parameters"),
    [(4, 4539988), (5, 11619924), (6, 18699860), (7, 25779796), (8, 32859732)],
)
def test_number_of_parameters(levels: int, parameters: int) -> None:
    config = small_config(256, width=64, levels=levels)
    network = jax.eval_shape(lambda: PCONV.init(config, jax.random.key(0)))["network"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(network["params"])) == parameters
    if levels == 7:
        statistics = jax.tree.leaves(network["batch_stats"])
        assert len(statistics) == 24 and sum(leaf.size for leaf in statistics) == 2 * 4416
        assert build_network(small_config(256)).levels == 7


@pytest.mark.parametrize(("size", "levels"), [(32, 4), (64, 5), (256, 7), (512, 8)])
def test_levels_follow_the_picture(size: int, levels: int) -> None:
    config = small_config(size)
    network = build_network(config)
    assert network.levels == levels
    image, mask = jnp.zeros((2, size, size, 3)), jnp.zeros((2, size, size, 1))
    output, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), image, mask)
    assert output.shape == image.shape and output.dtype == jnp.float32


def test_too_many_levels_are_refused() -> None:
    with pytest.raises(UserError, match=r"config.pconv.levels = 6; pictures of 32 px .* 5 times"):
        small_config(levels=6)


def test_signal_at_the_start(stage: PConvStage, state: TrainState) -> None:
    """An output, and a gradient for every kernel, that are not lost in the layers."""
    variables = state.variables["network"]
    batch = pictures()
    image, mask = jnp.asarray(batch["image"] / 127.5 - 1, jnp.float32), jnp.float32(batch["mask"])
    shown = normalise(image, TORCHVISION)

    def output(params: Any) -> jax.Array:
        of_batch = ("encoder", "decoder")
        return stage.network.apply(
            {**variables, "params": params}, shown, mask, of_batch, mutable=["batch_stats"]
        )[0]

    raw, pull = compiled(lambda params: jax.vjp(output, params))(variables["params"])
    assert 0.1 < np.std(raw) < 10
    (gradient,) = pull(jnp.sign(raw) / raw.size)
    norms = {n: np.linalg.norm(g) for n, g in leaves(gradient).items() if n.endswith("kernel")}
    assert len(norms) == 8 and min(norms.values()) > 1e-4


@pytest.mark.parametrize("levels", [2, 4])
def test_the_network_is_that_of_loops_in_float64(levels: int) -> None:
    size = 16
    network = PConvNetwork(levels, 2)
    image = np.random.default_rng(1).normal(size=(1, size, size, 3)).astype(np.float32)
    mask = np.zeros((1, size, size, 1), np.float32)
    mask[:, 3:14, 2:15] = 1
    shapes = jax.eval_shape(network.init, jax.random.key(0), image, mask)
    # Shifts that fill the holes behind a norm, and statistics that are not those of the start.
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    variables = {
        "params": drawn["params"],
        "batch_stats": jax.tree.map(lambda leaf: np.abs(leaf) + 1, drawn["batch_stats"]),
    }
    found = compiled(network.apply)(variables, image, mask)[0]
    expected = reference_network(variables, image[0], 1 - mask[0])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_output_does_not_depend_on_what_stands_in_the_hole(state: TrainState) -> None:
    config, batch = small_config(), pictures()
    hole = batch["mask"] > 0
    other = np.where(hole, 255 - batch["image"], batch["image"])
    filler = Filler(PCONV, config, state.average)
    numbers = np.zeros(BATCH, np.uint32)
    first, finite = filler(batch["image"], hole, numbers, numbers)
    np.testing.assert_array_equal(first, filler(other, hole, numbers, numbers)[0])
    assert finite.all() and not filler.draws
    known = np.where(hole, batch["image"], 255 - batch["image"])
    assert (first != filler(known, hole, numbers, numbers)[0]).any()


def test_the_masks_are_those_of_the_paper_whatever_lies_between(state: TrainState) -> None:
    """Grey mask values are rounded at 0.5, so that no window is half known."""
    config, batch = small_config(), pictures()
    image = jnp.asarray(batch["image"] / 127.5 - 1, jnp.float32)
    mask = batch["mask"].astype(np.float32)
    fill = compiled(lambda m: PCONV.fill(config, state.average, image, m, {}))
    np.testing.assert_array_equal(fill(mask), fill(np.where(mask > 0, 0.6, 0.4)))


def loss_of(config: ConfigDict, stage: PConvStage, state: TrainState, batch: Any) -> dict[str, Any]:
    """Every term in float64 by NumPy, from the network's output and the features of VGG."""
    image = batch["image"] / 127.5 - 1.0
    mask = batch["mask"].astype(np.float64)
    deviation = np.array([0.229, 0.224, 0.225])
    mean = np.array([0.485, 0.456, 0.406])
    truth = ((image + 1) / 2 - mean) / deviation
    raw, _ = applied(stage, state.variables, jnp.float32(truth), jnp.float32(mask))
    raw = np.asarray(raw, np.float64)
    raw_signed = (raw * deviation + mean) * 2 - 1
    pasted = np.where(mask > 0, raw_signed, image)
    weights, taps = load_poolings("bundled", field="pconv.vgg")
    taken = compiled(functools.partial(features, taps=taps))
    target, *seen = (
        [np.asarray(f, np.float64) for f in taken(weights, jnp.float32(x))]
        for x in (image, raw_signed, pasted)
    )

    def gram(f: np.ndarray) -> np.ndarray:
        return np.einsum("nhwi,nhwj->nij", f, f) / np.prod(f.shape[1:])

    grown = np.pad(mask, ((0, 0), (1, 1), (1, 1), (0, 0)))
    grown = np.max([np.roll(grown, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)], 0)
    grown = grown[:, 1:-1, 1:-1]
    variation = 0.0
    for axis in (1, 2):
        first, second = (np.roll(a, -1, axis) for a in (pasted, grown))
        pairs = np.abs(first - pasted) / (2 * deviation) * second * grown
        variation += np.delete(pairs, -1, axis).sum()
    scaled = np.abs(raw_signed - image) / (2 * deviation)
    return {
        "valid": (scaled * (1 - mask)).mean(),
        "hole": (scaled * mask).mean(),
        "perceptual": sum(
            np.abs(f - t).mean() for maps in seen for f, t in zip(maps, target, strict=True)
        ),
        "style": sum(
            np.abs(gram(f) - gram(t)).mean()
            for maps in seen
            for f, t in zip(maps, target, strict=True)
        ),
        "variation": variation / pasted.size,
    }


def test_the_loss_is_that_of_numpy(
    stage: PConvStage, programs: dict[str, Any], state: TrainState
) -> None:
    batch = pictures()
    _, scalars = programs["main"](state, {**batch, **stage.constants})
    expected = loss_of(small_config(), stage, state, batch)
    for name, value in expected.items():
        np.testing.assert_allclose(scalars[f"loss/{name}"], value, rtol=1e-4, err_msg=name)
    weights = {"valid": 1, "hole": 6, "perceptual": 0.05, "style": 120, "variation": 0.1}
    total = sum(weights[name] * value for name, value in expected.items())
    np.testing.assert_allclose(scalars["loss/total"], total, rtol=1e-4)
    assert min(expected.values()) > 0


def test_every_weight_moves_and_the_average_is_the_last_weights(
    stage: PConvStage, programs: dict[str, Any], state: TrainState
) -> None:
    now, _ = programs["main"](state, {**pictures(), **stage.constants})
    jax.tree.map(np.testing.assert_array_equal, now.average, now.variables)
    before, after = (leaves(s.variables["network"]) for s in (state, now))
    assert all((before[name] != after[name]).any() for name in before)


def test_the_frozen_program_leaves_the_norms_of_the_encoder(
    stage: PConvStage, programs: dict[str, Any], state: TrainState
) -> None:
    batch = {**pictures(), **stage.constants}
    before, _ = programs["main"](state, batch)  # so that Adam has moments of everything
    after, scalars = programs["frozen"](before, batch)
    old, new = leaves(before.variables["network"]), leaves(after.variables["network"])
    frozen = {name for name in old if "encoder" in name and "norm" in name}
    assert len(frozen) == 3 * 4  # encoder_2 to encoder_4: scale, bias, mean, var
    for name in old:
        assert (old[name] == new[name]).all() == (name in frozen), name
    assert float(scalars["optimizer/learning_rate"]) == np.float32(5e-5)
    step = new["params/encoder_1/conv/kernel"] - old["params/encoder_1/conv/kernel"]
    assert 1e-5 < np.abs(step).max() < 6e-5


def test_running_statistics_are_those_of_the_batches(
    stage: PConvStage, programs: dict[str, Any], state: TrainState
) -> None:
    """With rates of zero they settle, and the loss with them is that with the batch's."""
    batch = pictures()
    config = small_config(learning_rate=0.0, **WITHOUT_VGG)
    still = stage_of(config)
    program = compiled(still.programs["main"])
    now = state
    for _ in range(40):
        now, scalars = program(now, {**batch, **still.constants})
    image = jnp.asarray(batch["image"] / 127.5 - 1, jnp.float32)
    shown, mask = normalise(image, TORCHVISION), jnp.float32(batch["mask"])
    by_batch, by_running = applied(stage, now.variables, shown, mask)
    spread = np.std(by_batch)
    assert np.abs(by_batch - by_running).mean() < 0.02 * spread
    _, unsettled = applied(stage, state.variables, shown, mask)
    assert np.abs(by_batch - unsettled).mean() > 0.1 * spread
    _, frozen = compiled(still.programs["frozen"])(now, {**batch, **still.constants})
    np.testing.assert_allclose(frozen["loss/total"], scalars["loss/total"], rtol=0.02)


def test_where_nothing_is_known_the_mean_colour_is_filled_in(state: TrainState) -> None:
    config, image = small_config(), jnp.asarray(pictures()["image"] / 127.5 - 1, jnp.float32)
    fill = compiled(lambda *inputs: PCONV.fill(config, *inputs, {}))
    filled = fill(state.average, image, jnp.ones((*image.shape[:3], 1)))
    mean = np.array([0.485, 0.456, 0.406]) * 2 - 1
    np.testing.assert_allclose(filled, np.broadcast_to(mean, filled.shape), atol=1e-6)


def test_programs_change_at_the_last_share() -> None:
    stage = stage_of(small_config())
    assert stage.total_steps == 32  # 128 pictures
    due = [stage.due(step) for step in range(stage.total_steps)]
    assert due == [("main",)] * 26 + [("frozen",)] * 6
    assert set(stage.programs) == {"main", "frozen"}
    for share, name in ((0.0, "main"), (1.0, "frozen")):
        stage = stage_of(small_config(finetune_share=share))
        assert set(stage.programs) == {name} and stage.due(0) == stage.due(31) == (name,)


def test_bfloat16_moves_like_float32(state: TrainState) -> None:
    batch = pictures()
    losses = []
    for dtype in ("float32", "bfloat16"):
        stage = stage_of(small_config(compute_dtype=dtype))
        after, scalars = compiled(stage.programs["main"])(state, {**batch, **stage.constants})
        assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(after))
        losses.append(float(scalars["loss/total"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[0] != losses[1]


def test_an_average_moves_by_its_share(state: TrainState) -> None:
    stage = stage_of(small_config(ema=0.75, **WITHOUT_VGG))
    assert stage.constants == {}
    after, scalars = compiled(stage.programs["main"])(state, pictures())
    assert {"loss/perceptual", "loss/style"}.isdisjoint(scalars)
    new, average, old = (
        leaves(tree["network"]) for tree in (after.variables, after.average, state.variables)
    )
    for name in new:
        share = 0.25 if name.startswith("params") else 1.0
        expected = old[name] + share * (new[name] - old[name])
        np.testing.assert_allclose(average[name], expected, rtol=1e-5, atol=1e-7)


def test_a_batch_over_four_devices_is_one_batch() -> None:
    stage = stage_of(small_config(**FLAT))
    state = first_state(stage)
    program, batch, mesh = compiled(stage.programs["main"]), pictures(), data_mesh()
    assert mesh.size == 4
    alone, one = program(state, batch)
    there, four = program(to_every_device(state, mesh), to_devices(batch, mesh))
    np.testing.assert_allclose(one["loss/total"], four["loss/total"], rtol=1e-5)
    for name, array in leaves(alone.variables["network"]["batch_stats"]).items():
        other = leaves(there.variables["network"]["batch_stats"])[name]
        np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-5)
