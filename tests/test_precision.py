"""bfloat16 compute: where it is used and where not, that it learns the same; rematerialisation."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import abstract, abstract_inputs, compiled
from small_stages import (
    BATCH,
    Recorder,
    abstract_memory,
    initial,
    inpainting_stage,
    leaves,
    memory_stage,
    pictures,
    small_config,
    snapshot,
)

from gmsrm_jax.methods.gm_srm.memory import channel_table
from gmsrm_jax.methods.gm_srm.memory_discriminator import MemoryDiscriminator
from gmsrm_jax.methods.gm_srm.network import InpaintingNetwork, build_network
from gmsrm_jax.nn import layers

STEPS = 24
# What must not be done in bfloat16 wherever it stands: sums, roots, exponentials, hyperbolic
# functions, logarithms, products of matrices (codes, styles, statistics, power iterations).
ISLANDS = ("rsqrt", "sqrt", "exponential", "log", "tanh", "logistic", "dot_general")


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def operations(text, name):
    """Lines of a StableHLO text that are one operation."""
    return [line for line in text.splitlines() if re.search(rf"stablehlo\.{name}\b", line)]


def formats(line):
    """Formats of the floating-point arrays that a line names."""
    return set(re.findall(r"tensor<(?:\d+x)*(bf16|f16|f32|f64)>", line))


def lowered(stage, given):
    state = jax.eval_shape(stage.init, jax.random.key(0), given)
    batch = {**pictures(1, BATCH), **stage.constants}
    return {
        name: jax.jit(program).lower(state, batch).as_text()
        for name, program in stage.programs.items()
    }


@pytest.fixture(scope="module")
def texts():
    """The programs of both stages in bfloat16, before XLA rewrites them for a CPU."""
    config = small_config(compute_dtype="bfloat16", memory__reconstruction_weight=0.5)
    given = {"memory": {"kept": abstract_memory(config).kept}}
    found = {f"memory/{n}": t for n, t in lowered(memory_stage(config), {}).items()}
    return found | {
        f"inpainting/{n}": t for n, t in lowered(inpainting_stage(config), given).items()
    }


@pytest.mark.parametrize("program", ["memory/main", "inpainting/main"])
def test_convolutions_of_the_main_steps_are_in_bfloat16(texts, program):
    found = [formats(line) for line in operations(texts[program], "convolution")]
    assert len(found) > 50
    assert all(kinds == {"bf16"} for kinds in found)


@pytest.mark.parametrize("program", ["memory/r1", "memory/path"])
def test_r1_and_path_length_are_in_float32_throughout(texts, program):
    assert operations(texts[program], "convolution")
    assert "bf16" not in texts[program]


@pytest.mark.parametrize("program", ["memory/main", "inpainting/main"])
def test_sums_roots_and_exponentials_are_in_float32(texts, program):
    text = texts[program]
    for name in ISLANDS:
        for line in operations(text, name):
            # But for the discriminator's dense layer, 4·4·8 = 128 wide.
            dense = name == "dot_general" and re.search(r"tensor<(4x128|128x8)xbf16>", line)
            assert dense or "bf16" not in formats(line), line
    sums = [line for line in operations(text, "reduce") if "stablehlo.add" in line]
    assert len(sums) > 50
    # VGG-19's poolings count how often the largest of four numbers occurs, which is exact.
    counts = [line for line in sums if "bf16" in formats(line)]
    assert all("dimensions = [2, 4]" in line and "x2x" in line for line in counts), counts
    assert program == "inpainting/main" or not counts


def test_everything_that_stays_is_in_float32():
    config = small_config(compute_dtype="bfloat16")
    earlier = {"memory": {"kept": abstract_memory(config).kept}}
    for stage, given in ((memory_stage(config), {}), (inpainting_stage(config), earlier)):
        state = jax.eval_shape(stage.init, jax.random.key(0), given)
        batch = {**pictures(1, BATCH), **stage.constants}
        for program in stage.programs.values():
            for name, leaf in jax.tree_util.tree_leaves_with_path(
                jax.eval_shape(program, state, batch)
            ):
                assert leaf.dtype in (jnp.float32, jnp.int32), name
    network = build_network(config, "bfloat16")
    given = abstract_inputs(config.image_size)
    params = jax.eval_shape(network.init, jax.random.key(0), *given)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    filled = jax.eval_shape(network.apply, params, *given)
    assert {leaf.dtype for leaf in filled} == {jnp.dtype("float32")}
    assert build_network(config).dtype == jnp.float32  # what fills holes outside of training


@pytest.mark.parametrize(
    "function",
    [
        layers.fir_upsample,
        layers.fir_downsample,
        lambda x: layers.fir_filter(x, (2, 1)),
        layers.bilinear_upsample,
        layers.instance_norm,
        layers.minibatch_stddev,
    ],
    ids=["fir_upsample", "fir_downsample", "fir_filter", "bilinear", "instance_norm", "stddev"],
)
def test_layers_round_but_keep_values_and_gradients(function):
    """Rounding to 8 bits a few times over: 2⁻⁸ for each, of the largest number."""
    x = jnp.asarray(normal(1, 2, 8, 8, 3) + 2.0, jnp.bfloat16)
    weights = normal(2, *jax.eval_shape(function, x).shape)

    def measured(x):
        y, pull = jax.vjp(function, x)
        return y, pull(jnp.asarray(weights, y.dtype))[0]

    run = compiled(measured)
    short, full = run(x), run(x.astype(jnp.float32))
    for own, reference in zip(short, full, strict=True):
        assert own.dtype == jnp.bfloat16
        own, reference = np.asarray(own, np.float32), np.asarray(reference)
        np.testing.assert_allclose(own, reference, rtol=0, atol=0.02 * np.abs(reference).max())


def test_instance_norm_sums_in_float32():
    """4096 pixels about a mean of 3: a sum in 8 bits would stop growing at 256 times the term."""
    x = jnp.asarray(3.0 + 0.25 * normal(3, 1, 64, 64, 2), jnp.bfloat16)
    given = np.asarray(x, np.float64)
    expected = (given - given.mean((1, 2))) / given.std((1, 2))
    got = np.asarray(layers.instance_norm(x), np.float64)
    np.testing.assert_allclose(got, expected, rtol=0.005, atol=0.005)


def stage_of(name, **fields):
    """A stage that learns something in STEPS steps, and what it is given."""
    config = small_config(
        memory__reconstruction_weight=2.0,
        memory__style_mixing=0.0,
        inpainting__schedule="constant",
        inpainting__learning_rate=1e-3,
        inpainting__perceptual_layers=("relu1_1",),
        inpainting__discriminator_features=(4, 8),
        **fields,
    )
    if name == "memory":
        return memory_stage(config), {}
    return inpainting_stage(config), {"memory": {"kept": snapshot(config)}}


def train(stage, state):
    recorder, calls = Recorder(stage), []
    for step in range(STEPS):
        calls.append(recorder.call("main", state, pictures(40 + step % 4, BATCH)))
        state = calls[-1].after
    return calls


@pytest.fixture(scope="module", params=["memory", "inpainting"])
def plain(request):
    """A stage's name, and its training in float32."""
    stage, given = stage_of(request.param)
    return request.param, train(stage, jax.device_get(initial(stage, given)))


@pytest.mark.slow
def test_training_in_bfloat16_tracks_float32(plain):
    """Losses step by step, and the way that weights went from the same beginning.

    Losses that compare pictures, and the total, may part by 5 % of their mean, those that two
    networks play for by 20 % and KL by 40 %; the weights by 20 % of the way.
    """
    name, calls = plain
    begun = calls[0].before
    stage, _ = stage_of(name, compute_dtype="bfloat16")
    curves, ends = {}, {}
    for dtype, made in (("float32", calls), ("bfloat16", train(stage, begun))):
        losses = {key for key in made[0].scalars if key.startswith("loss/")}
        curves[dtype] = {key: np.asarray([call.scalars[key] for call in made]) for key in losses}
        ends[dtype] = made[-1].after
    for loss, curve in curves["float32"].items():
        other = curves["bfloat16"][loss]
        steady = loss in ("loss/reconstruction", "loss/perceptual", "loss/total")
        # KL begins at 0 and, with slow heads, is a thousandth of the other terms at the end.
        tolerance = 0.05 if steady else 0.4 if loss == "loss/kl" else 0.2
        assert np.abs(other - curve).max() < tolerance * np.abs(curve).mean(), loss
    curve = curves["float32"]["loss/reconstruction"]
    assert curve[-1] < 0.6 * curve[0]  # something was learned
    network = "generator" if name == "memory" else "network"
    begun = leaves(begun.variables[network]["params"])
    one, other = (
        leaves(ends[dtype].variables[network]["params"]) for dtype in ("float32", "bfloat16")
    )
    way = np.concatenate([(one[k] - begun[k]).ravel() for k in begun])
    apart = np.concatenate([(one[k] - other[k]).ravel() for k in begun])
    assert 0 < np.linalg.norm(apart) < 0.2 * np.linalg.norm(way)


def stored(module, remat_from):
    """Numbers kept for the backward pass of a network's sum."""
    variables = jax.eval_shape(module.init, jax.random.key(0), *ARGUMENTS[type(module)])
    own = module.clone(remat_from=remat_from)

    def loss(params, *inputs):
        return sum(
            jnp.sum(leaf) for leaf in jax.tree.leaves(own.apply({"params": params}, *inputs))
        )

    _, pull = jax.eval_shape(
        lambda *a: jax.vjp(loss, *a), variables["params"], *ARGUMENTS[type(module)]
    )
    return sum(leaf.size for leaf in jax.tree.leaves(pull))


CHANNELS = channel_table(32, 128, 8)
ARGUMENTS = {
    InpaintingNetwork: abstract_inputs(32),
    MemoryDiscriminator: (abstract(2, 32, 32, 3),),
}


@pytest.mark.parametrize(
    "module",
    [InpaintingNetwork(CHANNELS, code_dim=8, code_channels=4), MemoryDiscriminator(CHANNELS)],
    ids=["network", "discriminator"],
)
def test_rematerialised_blocks_keep_less_for_the_backward_pass(module):
    nothing, high, all_ = (stored(module, first) for first in (0, 16, 4))
    assert all_ < high < 0.6 * nothing


@pytest.mark.slow
def test_rematerialisation_changes_neither_names_nor_gradients(plain):
    name, calls = plain
    first = calls[0]
    stage, given = stage_of(name, model__remat_from=16)
    begun = jax.eval_shape(stage.init, jax.random.key(0), given)
    assert jax.tree.structure(begun) == jax.tree.structure(first.before)
    remat = Recorder(stage).call("main", first.before, pictures(40, BATCH))
    for key, value in first.scalars.items():
        np.testing.assert_allclose(remat.scalars[key], value, rtol=1e-4, atol=1e-6, err_msg=key)
    for network in first.before.variables:
        one, other = (leaves(call.after.optimizer[network]) for call in (first, remat))
        largest = max(np.abs(v).max() for k, v in one.items() if ".mu" in k)
        for key in (key for key in one if ".mu" in key):
            np.testing.assert_allclose(other[key], one[key], rtol=0, atol=1e-4 * largest)


def test_a_block_is_rematerialised_from_its_resolution_on():
    assert layers.rematerialised(nn.Dense, 64, 0) is nn.Dense
    assert layers.rematerialised(nn.Dense, 64, 128) is nn.Dense
    assert layers.rematerialised(nn.Dense, 64, 64) is not nn.Dense
