"""LBAM: sizes, learned maps, the network against NumPy, signal at the start, one step."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from ml_collections import ConfigDict
from scipy.special import expit
from small_networks import compiled, filled_by_hand

from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import apply_argument, base_config
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, TrainState
from gmsrm_jax.methods.lbam.maps import AttentionMap, keep_in_ranges, next_mask
from gmsrm_jax.methods.lbam.network import Critic, LBAMNetwork
from gmsrm_jax.nn.vgg import features, load_poolings
from gmsrm_jax.runtime.errors import UserError

LBAM = METHODS["lbam"]
SIZE, BATCH = 32, 4
FORWARD, REVERSE = (1.1, 2.0, 1.0, 1.0), (1.1, 1.0, 0.5, 0.5)
WITHOUT_VGG = {"perceptual_weight": 0.0, "style_weight": 0.0}


def config_of(local: bool = True, **fields: Any) -> ConfigDict:
    """The local config with few channels, or the paper's."""
    config = apply_argument(base_config(), "lbam,runlocal" if local else "lbam").unlock()
    if local:
        fields = {"width": 4, "critic_width": 4, "batch_size": BATCH} | fields
    for name, value in fields.items():
        (config if name in config else config.lbam)[name] = value
    check_config(config)
    return config.lock()


def pictures() -> dict[str, np.ndarray]:
    """Noise over a slope, uint8, with a hole of another place in each."""
    rng = np.random.default_rng(0)
    slope = np.linspace(40, 200, SIZE)[None, None, :, None]
    image = np.clip(slope + rng.normal(0, 30, (BATCH, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros((BATCH, SIZE, SIZE, 1), np.uint8)
    for index, (row, column) in enumerate(rng.integers(0, SIZE // 2, (BATCH, 2))):
        mask[index, row : row + SIZE // 2, column : column + SIZE // 2] = 1
    return {"image": image, "mask": mask}


def stage_of(config: ConfigDict) -> Any:
    (spec,) = LBAM.stages_of(config)
    return spec.build(Context(num_examples=16, validation=pictures()))


def first_state(stage: Any) -> TrainState:
    return compiled(lambda key: stage.init(key, {}))(jax.random.key(0, impl="unsafe_rbg"))


@functools.cache
def plain() -> tuple[Any, TrainState, Any]:
    """The stage, its first state, and its program."""
    stage = stage_of(config_of())
    return stage, first_state(stage), compiled(stage.programs["main"])


def leaves(tree: Any) -> dict[str, np.ndarray]:
    return {"/".join(path): np.asarray(x) for path, x in traverse_util.flatten_dict(tree).items()}


def count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


# Sizes


@pytest.mark.parametrize(("normed", "parameters"), [(True, 68_317_748), (False, 68_304_948)])
def test_numbers_of_parameters(normed: bool, parameters: int) -> None:
    config = config_of(local=False, batch_norm=normed)
    assert config.image_size == 256 and config.batch_size == 16
    network = jax.eval_shape(lambda: LBAM.init(config, jax.random.key(0)))["network"]
    params = network["params"]
    assert count(params) == parameters
    assert sum(leaf.shape == () for leaf in jax.tree.leaves(params)) == 13 * 4
    assert ("batch_stats" in network) == normed
    sizes = {
        "encoder_1": 4_096,
        "forward_1": 3_072,
        "reverse_1": 3_072,
        "encoder_4": 2_097_152,
        "reverse_6": 4_194_304,
        "decoder_7": 4_194_304,
        "decoder_6": 8_388_608,
        "decoder_2": 262_144,
        "decoder_1": 6_144,
    }
    assert {name: count(params[name]) for name in sizes} == sizes


@pytest.mark.parametrize(
    ("released", "parameters"), [(False, 22_308_737), (True, 22_308_737 + 7_680)]
)
def test_the_critic_gives_one_number_a_picture(released: bool, parameters: int) -> None:
    form = "released" if released else "wasserstein"
    fields = WITHOUT_VGG | {"adversarial_form": form}
    module = stage_of(config_of(local=False, **fields)).adversaries[0].module
    seen = jnp.zeros((2, 256, 256, 3)), jnp.zeros((2, 256, 256, 1))
    logits, variables = jax.eval_shape(
        functools.partial(module.init_with_output, update_stats=False), jax.random.key(0), *seen
    )
    assert logits.shape == (2, 1, 1, 1) and logits.dtype == jnp.float32
    assert count(variables["params"]) == parameters


# Learned maps

RESPONSES = np.float32([-1, 0, 0.5, 1, 1.5, 2, 2.5, 3, 4])
# From the formulas with the first numbers of each, to six digits.
FORWARD_MAP = [0.000136, 0.020147, 0.115939, 0.404667, 0.856681, 1.1, 1.077880, 1.036788, 1.001832]
REVERSE_MAP = [0.148869, 0.667184, 0.970747, 1.1, 1.088250, 1.060653, 1.032465, 1.013533, 1.001111]
NEXT_MASK = [0, 0, 0.574349, 1, 1.383162, 1.741101, 2.081383, 2.408225, 3.031433]
FORWARD_SLOPE = [
    0.000815,
    0.080589,
    0.347817,
    0.809335,
    0.856681,
    0,
    -0.07788,
    -0.073576,
    -0.007326,
]


@pytest.mark.parametrize(("start", "expected"), [(FORWARD, FORWARD_MAP), (REVERSE, REVERSE_MAP)])
def test_attention_maps(start: Any, expected: list[float]) -> None:
    module = AttentionMap(start)
    variables = module.init(jax.random.key(0), RESPONSES)
    np.testing.assert_allclose(module.apply(variables, RESPONSES), expected, atol=1e-6)
    slope = jax.grad(lambda r: module.apply(variables, r).sum())(jnp.float32(RESPONSES))
    if start == FORWARD:
        np.testing.assert_allclose(slope, FORWARD_SLOPE, atol=1e-6)
    # All four numbers learn.
    gradient = jax.grad(lambda v: module.apply(v, RESPONSES).sum())(variables)
    assert all(np.abs(value) > 1e-3 for value in leaves(gradient).values())


def test_next_masks_and_their_slopes() -> None:
    np.testing.assert_allclose(next_mask(jnp.asarray(RESPONSES)), NEXT_MASK, atol=1e-6)
    steep = jnp.float32([-1, 0, 1e-9, 1e-4, 1])
    slope = jax.grad(lambda r: next_mask(r).sum())(steep)
    np.testing.assert_allclose(slope, [0, 0, 0, 0.8 * 1e-4**-0.2, 0.8], rtol=1e-5)


def test_numbers_of_maps_are_brought_back_to_their_ranges() -> None:
    def tree(*values: float) -> Any:
        names = ("peak", "centre", "left", "right")
        numbers = dict(zip(names, map(jnp.float32, values), strict=True))
        return {"forward_map_1": numbers, "encoder_1": {"kernel": jnp.full((2,), 9.0)}}

    projection, within = keep_in_ranges(), tree(1.1, 2, 1, 1)

    def moved(*steps: float) -> Any:
        updates, _ = projection.update(tree(*steps), projection.init(within), within)
        return optax.apply_updates(within, updates)

    changed = {"encoder_1": {"kernel": jnp.full((2,), 18.0)}}
    near = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(near, moved(8, -3, 8, -1), tree(6, 0.1, 2, 0.5) | changed)
    jax.tree.map(near, moved(0.5, 0.5, 0.5, 0.5), tree(1.6, 2.5, 1.5, 1.5) | changed)


def test_first_numbers_out_of_their_ranges_are_refused() -> None:
    with pytest.raises(UserError, match=r"lbam.forward_map = .* centre 4 is outside .* 0.1 to 3"):
        config_of(forward_map=(1.1, 4.0, 1.0, 1.0))
    with pytest.raises(UserError, match=r"config.lbam.levels = 6; pictures of 32 px .* 5 times"):
        config_of(levels=6)


# The network


def conv(x: np.ndarray, kernel: Any) -> np.ndarray:
    """A 4×4 convolution of stride 2 with a border of one zero, [H, W, I] in float64."""
    padded, kernel = np.pad(x, [(1, 1), (1, 1), (0, 0)]), np.float64(kernel)
    height, width = x.shape[0] // 2, x.shape[1] // 2
    y = np.zeros((height, width, kernel.shape[3]))
    for a in range(4):
        for b in range(4):
            y += padded[a : a + 2 * height : 2, b : b + 2 * width : 2] @ kernel[a, b]
    return y


def transposed(x: np.ndarray, kernel: Any) -> np.ndarray:
    """Its transpose with the kernel turned by half: every pixel adds a 4×4 patch."""
    kernel, (height, width) = np.float64(kernel)[::-1, ::-1], x.shape[:2]
    y = np.zeros((2 * height + 2, 2 * width + 2, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            y[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("i,abio->abo", x[i, j], kernel)
    return y[1:-1, 1:-1]


def doubles(tree: Any) -> Any:
    return jax.tree.map(np.float64, tree)


def normalised(x: np.ndarray, moments: Any, affine: Any) -> np.ndarray:
    y = (x - moments["mean"]) / np.sqrt(moments["var"] + 1e-5)
    return y * affine["scale"] + affine["bias"]


def gaussian(r: np.ndarray, numbers: Any) -> np.ndarray:
    a, centre, left, right = (float(numbers[n]) for n in ("peak", "centre", "left", "right"))
    below, above = (np.exp(-width * (r - centre) ** 2) for width in (left, right))
    return np.where(r < centre, a * below, 1 + (a - 1) * above)


def by_hand(variables: Any, image: np.ndarray, mask: np.ndarray, levels: int) -> np.ndarray:
    """One picture in [0, 1] through the whole network, by running statistics if there are any."""
    params = doubles(variables["params"])
    statistics = doubles(variables.get("batch_stats", {}))

    def activated(x: np.ndarray, norm: str) -> np.ndarray:
        if norm in statistics:
            x = normalised(x, statistics[norm], params[norm])
        return np.where(x > 0, x, 0.2 * x)

    known = 1 - mask
    x = np.concatenate([image * known, known], -1)
    k, m = known.repeat(3, -1), mask.repeat(3, -1)
    skips, forwards, reverses = [], [], []
    for i in range(1, levels + 1):
        skips.append(conv(x, params[f"encoder_{i}"]["kernel"]))
        k = conv(k, params[f"forward_{i}"]["kernel"])
        forwards.append(gaussian(k, params[f"forward_map_{i}"]))
        x = activated(skips[-1] * forwards[-1], f"encoder_norm_{i}")
        k = np.maximum(k, 0) ** 0.8
        if i < levels:
            m = conv(m, params[f"reverse_{i}"]["kernel"])
            reverses.append(gaussian(m, params[f"reverse_map_{i}"]))
            m = np.maximum(m, 0) ** 0.8
    for i in range(levels - 1, 0, -1):
        u = transposed(x, params[f"decoder_{i + 1}"]["kernel"])
        x = np.concatenate([skips[i - 1] * forwards[i - 1], u * reverses[i - 1]], -1)
        x = activated(x, f"decoder_norm_{i + 1}")
    return np.tanh(transposed(x, params["decoder_1"]["kernel"]))


@pytest.mark.parametrize("normed", [True, False])
def test_a_filling_is_that_of_numpy(normed: bool) -> None:
    """Forward maps weigh the skips, reverse maps what is decoded; the hole is not looked at."""
    config = config_of(batch_norm=normed, width=2)
    drawn = filled_by_hand(jax.eval_shape(lambda: LBAM.init(config, jax.random.key(0))))["network"]
    params = dict(drawn["params"])
    start = {"peak": 1.3, "centre": 1.2, "left": 0.7, "right": 1.4}
    assert ("encoder_norm_2" in params) == normed
    # Responses near the middle of the maps, where they differ.
    for index, name in enumerate(params):
        if "_map_" in name:
            params[name] = {key: jnp.float32(v + 0.01 * index) for key, v in start.items()}
        elif name.startswith(("forward_", "reverse_")):
            params[name] = {"kernel": jnp.abs(params[name]["kernel"])}
    variables = {"params": params}
    if normed:
        moved = jax.tree.map(lambda leaf: jnp.abs(leaf) + 1, drawn["batch_stats"])
        variables["batch_stats"] = moved
    batch = pictures()
    image, mask = batch["image"][:1] / 127.5 - 1, np.float64(batch["mask"][:1])

    @compiled
    def fill(variables: Any, image: jax.Array) -> jax.Array:
        return LBAM.fill(config, {"network": variables}, image, jnp.float32(mask), {})

    found = fill(variables, jnp.float32(image))
    expected = by_hand(variables, (image[0] + 1) / 2, mask[0], 4)
    assert np.std(expected) > 0.02
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    other = jnp.float32(image * (1 - mask) + 0.3 * mask)
    np.testing.assert_array_equal(fill(variables, other), found)
    # Without its last layer it paints grey.
    params["decoder_1"] = jax.tree.map(jnp.zeros_like, params["decoder_1"])
    assert not np.any(fill(variables, other))


@pytest.mark.parametrize("released", [True, False])
def test_the_critic_is_that_of_numpy(released: bool) -> None:
    """One column sees the known part, one the hole; the authors' ends in a sigmoid."""
    module, batch = Critic(2, released), pictures()
    shown = np.float32(batch["image"][:1] / 255), np.float32(batch["mask"][:1])
    init = functools.partial(module.init, update_stats=False)
    variables = filled_by_hand(jax.eval_shape(init, jax.random.key(0), *shown))
    if released:
        statistics = jax.tree.map(lambda leaf: jnp.abs(leaf) + 1, variables["batch_stats"])
        variables = {**variables, "batch_stats": statistics}
    params, columns = doubles(variables["params"]), []
    for name, part in (("known", 1 - shown[1]), ("hole", shown[1])):
        x = np.float64(shown[0] * part)[0]
        for i in range(3):
            layer, norm = params[f"{name}_{i}"], f"{name}_norm_{i}"
            x = conv(x, layer["kernel"]) + layer["bias"]
            if norm in variables.get("batch_stats", {}):
                x = normalised(x, doubles(variables["batch_stats"][norm]), params[norm])
            x = np.where(x > 0, x, 0.2 * x)
        columns.append(x)
    assert columns[0].shape == (4, 4, 8)
    expected = np.vdot(np.concatenate(columns, -1), params["out"]["kernel"][..., 0])
    expected += params["out"]["bias"][0]
    found = compiled(functools.partial(module.apply, update_stats=False))(variables, *shown)
    np.testing.assert_allclose(found[0, 0, 0, 0], expit(expected) if released else expected, 1e-4)


@pytest.mark.parametrize(
    ("fields", "alive"),
    [
        ({}, True),
        ({"batch_norm": False, "start": "positive"}, True),
        ({"batch_norm": False}, False),
    ],
)
def test_signal_at_the_start(fields: dict[str, Any], alive: bool) -> None:
    """By batch norms or by positive masks; the released network has neither, and loses it."""
    config, batch = config_of(image_size=64, width=8, **fields), pictures()
    image = np.float32(batch["image"][:2] / 255).repeat(2, 1).repeat(2, 2)
    mask = np.float32(batch["mask"][:2]).repeat(2, 1).repeat(2, 2)
    variables = compiled(lambda key: LBAM.init(config, key))(jax.random.key(0))["network"]
    module = LBAMNetwork(5, 8, config.lbam.batch_norm)

    def output(params: Any) -> jax.Array:
        whole = {**variables, "params": params}
        return module.apply(whole, image, mask, True, mutable=["batch_stats"])[0]

    raw, pull = compiled(lambda params: jax.vjp(output, params))(variables["params"])
    (gradient,) = pull(jnp.sign(raw) / raw.size)
    norms = {n: np.linalg.norm(g) for n, g in leaves(gradient).items() if n.endswith("kernel")}
    assert len(norms) == 5 + 5 + 4 + 5
    assert (min(norms.values()) > 1e-6) == alive
    assert (float(np.std(raw)) > 0.01) == alive


# Steps


def gram(f: np.ndarray) -> np.ndarray:
    return np.einsum("nhwi,nhwj->nij", f, f) / np.prod(f.shape[1:])


def test_the_losses_are_those_of_numpy() -> None:
    """Every term from output and features; the critic's signs are those of WGAN-GP."""
    stage, state, run = plain()
    batch = pictures()
    image, mask = np.float64(batch["image"]) / 255, np.float64(batch["mask"])
    signed = jnp.float32(2 * image - 1)
    _, scalars = run(state, {**batch, **stage.constants})
    raw, _ = compiled(lambda *shown: stage.network.apply(*shown, True, mutable=["batch_stats"]))(
        state.variables["network"], jnp.float32(image), jnp.float32(mask)
    )
    made = (np.float64(raw) + 1) / 2
    weights, taps = load_poolings("bundled", unit_input=True, field="lbam.vgg")
    taken = compiled(functools.partial(features, taps=taps))
    pasted = jnp.where(mask > 0, raw, signed)
    target, *seen = (
        [np.asarray(f, np.float64) for f in taken(weights, x)] for x in (signed, raw, pasted)
    )
    pairs = [(f, t) for maps in seen for f, t in zip(maps, target, strict=True)]
    judge = compiled(stage.adversaries[0].judge)
    shown = [(jnp.float32(x), jnp.float32(mask)) for x in (image, made)]
    real, fake = (float(judge(state.variables["critic"], x)[0].mean()) for x in shown)
    penalty = float(scalars["loss/critic_penalty"])
    expected = {
        "valid": np.abs((1 - mask) * (made - image)).mean(),
        "hole": np.abs(mask * (made - image)).mean(),
        "perceptual": sum(np.abs(f - t).mean() for f, t in pairs),
        "style": sum(np.abs(gram(f) - gram(t)).mean() for f, t in pairs),
        "adversarial": -fake,
        "critic": fake - real + 10 * penalty,
    }
    for name, value in expected.items():
        atol = 1e-5 if name in ("adversarial", "critic") else 0
        np.testing.assert_allclose(scalars[f"loss/{name}"], value, 1e-4, atol, err_msg=name)
    names = {"valid": 1, "hole": 6, "perceptual": 0.01, "style": 120, "adversarial": 0.1}
    total = sum(weight * expected[name] for name, weight in names.items())
    np.testing.assert_allclose(scalars["loss/total"], total, rtol=1e-4)
    # A new critic is flat: (0 - 1)².
    assert 0.5 < penalty < 1.5


def test_a_step_moves_all_weights_and_the_average_is_the_last_ones() -> None:
    stage, state, run = plain()
    after, scalars = run(state, {**pictures(), **stage.constants})
    assert after.step == 1 and all(np.isfinite(value) for value in scalars.values())
    assert set(after.variables) == {"network", "critic"}
    for name, rate in (("network", 1e-4), ("critic", 1e-5)):
        changes = {}
        for leaf, value in leaves(state.variables[name]["params"]).items():
            changes[leaf] = np.abs(leaves(after.variables[name]["params"])[leaf] - value).max()
        # Masks respond with less than any map's μ as yet; a critic's constant has no effect.
        still = {leaf for leaf, change in changes.items() if not change}
        assert {leaf for leaf in still if not leaf.endswith("/right")} <= {"out/bias"}
        # Adam's first step is the rate; a number of order 1 is rounded to 1e-7.
        assert max(changes.values()) < rate + 3e-7
    for leaf, value in leaves(state.variables["network"]["batch_stats"]).items():
        assert (leaves(after.variables["network"]["batch_stats"])[leaf] != value).any(), leaf
    jax.tree.map(
        np.testing.assert_array_equal, after.average["network"], after.variables["network"]
    )


def test_a_step_brings_the_numbers_of_maps_back_to_their_ranges() -> None:
    """The numbers of the average too, which fills."""
    stage, state, run = plain()
    outside = {"peak": 9.0, "centre": -1.0, "left": 9.0, "right": 0.1}
    params = {
        name: {key: jnp.float32(outside[key]) for key in tree} if "_map_" in name else tree
        for name, tree in state.variables["network"]["params"].items()
    }
    network = {**state.variables["network"], "params": params}
    given = state.replace(variables={**state.variables, "network": network})
    after, _ = run(given, {**pictures(), **stage.constants})
    for tree in (after.variables, after.average):
        maps = [m for name, m in tree["network"]["params"].items() if "_map_" in name]
        assert len(maps) == 4 + 3
        for numbers in maps:
            found = [float(numbers[name]) for name in outside]
            np.testing.assert_allclose(found, [6, 0.1, 2, 0.5], rtol=1e-6)


def test_without_its_weight_there_is_no_critic() -> None:
    stage = stage_of(config_of(adversarial_weight=0.0, **WITHOUT_VGG))
    assert stage.constants == {}
    state = jax.eval_shape(lambda key: stage.init(key, {}), jax.random.key(0))
    assert set(state.variables) == set(state.optimizer) == {"network"}
    after, scalars = jax.eval_shape(stage.programs["main"], state, pictures())
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {name for name in scalars if "loss" in name} == {"loss/valid", "loss/hole", "loss/total"}


def test_the_released_signs_pull_alike() -> None:
    """D makes D(real) and D(made) small, and so does what fills; by switch, never by default."""
    stage = stage_of(config_of(adversarial_form="released", **WITHOUT_VGG))
    real, fake = jnp.float32([0.25, 0.75]), jnp.float32([0.5, 0.25])
    assert float(stage.adversaries[0].discriminator_loss(real, fake)) == 0.5 + 0.375
    assert float(stage.adversaries[0].generator_loss(fake)) == 0.375
    ours = plain()[0].adversaries[0]
    assert float(ours.discriminator_loss(real, fake)) == 0.375 - 0.5
    assert float(ours.generator_loss(fake)) == -0.375
    state = jax.eval_shape(lambda key: stage.init(key, {}), jax.random.key(0))
    assert len(jax.tree.leaves(state.variables["critic"]["batch_stats"])) == 2 * 2 * 2
    after, _ = jax.eval_shape(stage.programs["main"], state, pictures())
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_pictures_between_are_drawn_by_seed_step_and_example() -> None:
    """With all else equal, another step or seed gives another penalty, the same the same."""
    stage, state, run = plain()
    given = {**pictures(), **stage.constants}
    # A critic that is not flat.
    critic = jax.tree.map(lambda leaf: 40 * leaf, state.variables["critic"])
    state = state.replace(variables={**state.variables, "critic": critic})
    at = [
        float(run(state.replace(step=jnp.int32(step)), given)[1]["loss/critic_penalty"])
        for step in (0, 1, 0)
    ]
    assert at[0] == at[2] and abs(at[0] / at[1] - 1) > 1e-5


def test_missing_vgg16_says_what_to_fetch() -> None:
    with pytest.raises(UserError, match=r"no VGG-16 weights there.*--config.lbam.vgg="):
        stage_of(config_of(local=False))


def test_levels_follow_the_picture() -> None:
    for size in (32, 512):
        weights = jax.eval_shape(
            lambda size=size: LBAM.init(config_of(image_size=size), jax.random.key(0))
        )
        encoders = [name for name in weights["network"]["params"] if name[:9] == "encoder_n"]
        assert len(encoders) == math.log2(size) - 2  # all but the first have a norm
