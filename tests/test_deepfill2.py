"""DeepFill V2: sizes, layers and networks against NumPy, signal at the start, one step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_references import by_loops
from flax import traverse_util
from ml_collections import ConfigDict
from scipy.special import expit
from small_networks import applied, compiled, filled_by_hand, normal

from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import apply_argument, base_config
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, TrainState
from gmsrm_jax.methods.deepfill2.network import PatchDiscriminator, build_network
from gmsrm_jax.nn.gated import GatedConv

DEEPFILL2 = METHODS["deepfill2"]
SIZE, BATCH = 32, 4
DILATIONS = (2, 4, 8, 16)


def config_of(local: bool = True, **fields: Any) -> ConfigDict:
    """The local config with few channels, or the paper's."""
    config = apply_argument(base_config(), "deepfill2,runlocal" if local else "deepfill2").unlock()
    if local:
        fields = {"width": 4, "discriminator_features": (4, 6, 8), "batch_size": BATCH} | fields
    for name, value in fields.items():
        (config if name in config else config.deepfill2)[name] = value
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
    (spec,) = DEEPFILL2.stages_of(config)
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


def test_numbers_of_parameters() -> None:
    config = config_of(local=False)
    assert config.image_size == 256 and config.batch_size == 16
    weights = jax.eval_shape(lambda: DEEPFILL2.init(config, jax.random.key(0)))
    params = weights["network"]["params"]
    assert count(params["coarse"]) == 1_631_151
    assert count(params["refinement"]) == 2_421_327
    assert count(weights) == 4_052_478
    layers = params["coarse"]
    sizes = {"in": 6_048, "dilated_2": 166_080, "out": 327}
    assert {name: count(layers[name]) for name in sizes} == sizes
    assert count(params["refinement"]["joined_1"]) == 331_968


def test_the_discriminator_has_4096_logits() -> None:
    module = stage_of(config_of(local=False)).adversaries[0].module
    seen = jnp.zeros((2, 256, 256, 3)), jnp.zeros((2, 256, 256, 1))
    logits, variables = jax.eval_shape(
        functools.partial(module.init_with_output, update_stats=False), jax.random.key(0), *seen
    )
    assert logits.shape == (2, 4, 4, 256) and logits.dtype == jnp.float32
    assert count(variables["params"]) == 5_946_816
    assert len(jax.tree.leaves(variables["batch_stats"])) == 2 * 6


# Layers


def conv(x: np.ndarray, layer: Any, stride: int = 1, dilation: int = 1) -> np.ndarray:
    """A convolution of [H, W, I] by its taps, padded as TensorFlow's "SAME"."""
    kernel, bias = (np.float64(layer[name]) for name in ("kernel", "bias"))
    reach = (kernel.shape[0] - 1) * dilation
    pads, sizes = [], [-(-size // stride) for size in x.shape[:2]]
    for size, outputs in zip(x.shape[:2], sizes, strict=True):
        total = max((outputs - 1) * stride + reach + 1 - size, 0)
        pads.append((total // 2, total - total // 2))
    padded, y = np.pad(x, [*pads, (0, 0)]), np.zeros((*sizes, kernel.shape[3])) + bias
    for a in range(kernel.shape[0]):
        for b in range(kernel.shape[1]):
            rows = slice(a * dilation, a * dilation + (sizes[0] - 1) * stride + 1, stride)
            columns = slice(b * dilation, b * dilation + (sizes[1] - 1) * stride + 1, stride)
            y += padded[rows, columns] @ kernel[a, b]
    return y


def gated(x: np.ndarray, layer: Any, stride: int = 1, dilation: int = 1, relu: bool = False) -> Any:
    a, g = np.split(conv(x, layer["conv"], stride, dilation), 2, axis=-1)
    return (np.maximum(a, 0) if relu else np.where(a > 0, a, np.expm1(np.minimum(a, 0)))) * expit(g)


def doubled(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, 0).repeat(2, 1)


def test_a_gate_multiplies_what_it_is_given() -> None:
    """One pixel, a kernel that hands over (a, g)."""
    pairs = np.float32([(0, 5), (1, 0), (-1, 0), (1, 2)])[:, None, None, :]
    params = {"conv": {"kernel": np.eye(2, dtype=np.float32)[None, None], "bias": np.zeros(2)}}
    found = applied(GatedConv(1, 1), jax.tree.map(jnp.float32, params), pairs)
    np.testing.assert_allclose(found.ravel(), [0, 0.5, -0.316060, 0.880797], atol=1e-6)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(5, 1, 1), (3, 2, 1), (3, 1, 4)])
def test_gated_convolutions_are_those_of_numpy(kernel: int, stride: int, dilation: int) -> None:
    """At stride 2 of an even size the zero stands behind, unlike in PyTorch."""
    module, x = GatedConv(3, kernel, stride, dilation), normal(0, 1, 8, 8, 2)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    params = filled_by_hand(shapes["params"])
    found = applied(module, params, x)[0]
    np.testing.assert_allclose(found, gated(np.float64(x[0]), params, stride, dilation), atol=1e-5)


def decoded(x: np.ndarray, layers: Any) -> np.ndarray:
    x = gated(gated(doubled(x), layers["up_half"]), layers["half"])
    x = gated(gated(doubled(x), layers["up_whole"]), layers["whole"])
    return np.tanh(conv(x, layers["out"]))


def coarse(image: np.ndarray, mask: np.ndarray, layers: Any) -> np.ndarray:
    """The first column of the table, layer by layer, for one picture."""
    x = np.concatenate([image * (1 - mask), np.ones_like(mask), mask], -1)
    for name, stride in (("in", 1), ("down_half", 2), ("in_half", 1), ("down_quarter", 2)):
        x = gated(x, layers[name], stride)
    x = gated(gated(x, layers["quarter_1"]), layers["quarter_2"])
    for dilation in DILATIONS:
        x = gated(x, layers[f"dilated_{dilation}"], dilation=dilation)
    return decoded(gated(gated(x, layers["quarter_3"]), layers["quarter_4"]), layers)


def refined(image: np.ndarray, mask: np.ndarray, layers: Any) -> np.ndarray:
    """The two branches and their decoder."""
    branches = []
    for branch in ("dilated", "attention"):
        x = image
        for name in ("in", "down_half", "half", "down_quarter", "in_quarter"):
            x = gated(x, layers[f"{branch}_{name}"], 2 if "down" in name else 1)
        branches.append(gated(x, layers[f"{branch}_quarter"], relu=branch == "attention"))
    first, second = branches
    for dilation in DILATIONS:
        first = gated(first, layers[f"dilated_{dilation}"], dilation=dilation)
    second = by_loops(second, mask[..., 0], True, "even")
    second = gated(gated(second, layers["attended_1"]), layers["attended_2"])
    x = gated(np.concatenate([first, second], -1), layers["joined_1"])
    return decoded(gated(x, layers["joined_2"]), layers)


def test_a_filling_is_that_of_numpy() -> None:
    """Both networks, and the pasted picture between them; the hole is not looked at."""
    config, batch = config_of(width=2), pictures()
    shapes = jax.eval_shape(lambda: DEEPFILL2.init(config, jax.random.key(0)))
    variables = filled_by_hand(shapes, scale=2.0)
    image, mask = batch["image"][:1] / 127.5 - 1, np.float64(batch["mask"][:1])
    fill = compiled(lambda image: DEEPFILL2.fill(config, variables, image, jnp.float32(mask), {}))
    found = fill(jnp.float32(image))
    params = variables["network"]["params"]
    first = coarse(image[0], mask[0], params["coarse"])
    pasted = image[0] * (1 - mask[0]) + first * mask[0]
    expected = refined(pasted, mask[0], params["refinement"])
    assert np.std(expected) > 0.1 and np.std(first) > 0.1
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    np.testing.assert_array_equal(fill(jnp.float32(image * (1 - mask) + 0.3 * mask)), found)


@pytest.mark.parametrize("activated", [True, False])
def test_the_discriminator_is_that_of_numpy(activated: bool) -> None:
    """Spectral norms off; its last layer has a leaky ReLU, or none."""
    module, batch = PatchDiscriminator((3, 5, 4), activated, spectral=False), pictures()
    shown = np.float32(batch["image"][:1] / 127.5 - 1), np.float32(batch["mask"][:1])
    shapes = jax.eval_shape(
        functools.partial(module.init, update_stats=False), jax.random.key(0), *shown
    )
    params = filled_by_hand(shapes["params"])
    x = np.float64(np.concatenate(shown, -1))[0]
    for name, last in (("conv_0", False), ("conv_1", False), ("conv_2", True)):
        x = conv(x, params[name], 2)
        x = np.where((x > 0) | (last and not activated), x, 0.2 * x)
    found = applied(module, params, *shown, update_stats=False)[0]
    assert (x < 0).any()
    np.testing.assert_allclose(found, x, atol=1e-4)


# The start


@pytest.mark.parametrize("start", ["gained", "glorot"])
def test_signal_at_the_start(start: str) -> None:
    """The authors' weights lose it; ours give an output, and every kernel a gradient.

    A picture of 32 px is the hardest: of the widest kernels only the centre stands on it.
    """
    config, batch = config_of(start=start, width=12), pictures()
    variables = compiled(lambda key: DEEPFILL2.init(config, key))(jax.random.key(0))["network"]
    image, mask = np.float32(batch["image"] / 127.5 - 1)[:1], np.float32(batch["mask"])[:1]
    network = build_network(config)
    if start == "glorot":
        outputs = applied(network, variables["params"], image, mask)
        assert max(np.std(raw) for raw in outputs) < 1e-4
        return
    outputs, pull = compiled(lambda v: jax.vjp(lambda v: network.apply(v, image, mask), v))(
        variables
    )
    assert all(0.01 < np.std(raw) < 0.6 for raw in outputs)
    (gradient,) = pull(tuple(jnp.sign(raw) / raw.size for raw in outputs))
    norms = {n: np.linalg.norm(g) for n, g in leaves(gradient).items() if n.endswith("kernel")}
    assert len(norms) == 17 + 25 and min(norms.values()) > 1e-3


# Steps


def test_the_losses_are_those_of_numpy() -> None:
    """L1 of both outputs over whole pictures, hinge of composite and mask at the old weights."""
    stage, state, run = plain()
    batch = pictures()
    after, scalars = run(state, batch)
    image, mask = np.float32(batch["image"] / 127.5 - 1), np.float32(batch["mask"])
    params = state.variables["network"]["params"]
    first, second = applied(build_network(config_of()), params, image, mask)
    judge = compiled(stage.adversaries[0].judge)
    own = state.variables["discriminator"]
    fake, _ = judge(own, (jnp.where(mask > 0, second, image), mask))
    real, renewed = judge(own, (image, mask))
    fake, real = np.float64(fake), np.float64(real)
    expected = {
        "coarse": np.abs(np.float64(first) - image).mean(),
        "refinement": np.abs(np.float64(second) - image).mean(),
        "adversarial": -fake.mean(),
        "discriminator": np.maximum(1 - real, 0).mean() + np.maximum(1 + fake, 0).mean(),
    }
    expected["total"] = expected["coarse"] + expected["refinement"] + 0.1 * expected["adversarial"]
    for name, value in expected.items():
        np.testing.assert_allclose(scalars[f"loss/{name}"], value, rtol=1e-4, err_msg=name)
    for name, value in leaves(renewed["batch_stats"]).items():
        moved = leaves(after.variables["discriminator"]["batch_stats"])[name]
        np.testing.assert_allclose(moved, value, rtol=1e-4, atol=1e-6)


def test_a_step_moves_all_weights_and_the_average_is_the_last_ones() -> None:
    _, state, run = plain()
    after, scalars = run(state, pictures())
    assert after.step == 1 and all(np.isfinite(value) for value in scalars.values())
    assert set(after.variables) == {"network", "discriminator"}
    for name, tree in state.variables.items():
        for leaf, value in leaves(tree["params"]).items():
            moved = leaves(after.variables[name]["params"])[leaf]
            assert (moved != value).any(), (name, leaf)
            assert np.abs(moved - value).max() < 1.1e-4
    for name, tree in after.average.items():
        jax.tree.map(np.testing.assert_array_equal, tree, after.variables[name])


def test_only_the_hole_is_judged() -> None:
    """D's gradient at the second output is 0 where pixels are known."""
    stage, state, _ = plain()
    batch = pictures()
    image, mask = np.float32(batch["image"] / 127.5 - 1), np.float32(batch["mask"])

    def judged(raw: jax.Array) -> jax.Array:
        shown = (image * (1 - mask) + raw * mask, mask)
        (adversary,) = stage.adversaries
        return adversary.generator_loss(adversary.judge(state.variables["discriminator"], shown)[0])

    gradient = np.asarray(compiled(jax.grad(judged))(jnp.zeros_like(image)))
    hole = np.broadcast_to(mask > 0, gradient.shape)
    assert not gradient[~hole].any() and (gradient[hole] != 0).mean() > 0.9


def test_without_its_weight_there_is_no_discriminator() -> None:
    stage = stage_of(config_of(adversarial_weight=0.0))
    state = jax.eval_shape(lambda key: stage.init(key, {}), jax.random.key(0))
    assert set(state.variables) == set(state.optimizer) == {"network"}
    after, scalars = jax.eval_shape(stage.programs["main"], state, pictures())
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {name for name in scalars if "loss" in name} == {
        "loss/coarse",
        "loss/refinement",
        "loss/total",
    }
