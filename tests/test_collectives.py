"""What devices tell each other: sums of gradients, and never a part of the batch."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from small_stages import (
    SIZE,
    abstract_memory,
    initial,
    inpainting_stage,
    leaves,
    memory_stage,
    pictures,
    small_config,
    snapshot,
)

from gmsrm_jax.runtime.devices import replicated, split, to_devices
from gmsrm_jax.training.loop import abstract_state, lower_programs

FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# What could bring an exchange that the plain programs do not have.
SETTINGS = {
    "compute_dtype": "bfloat16",
    "accumulation": 2,
    "model__remat_from": 16,
    "memory__augment": "ada",
}


def mesh_of(count):
    devices = jax.devices()[:count]
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def stage_of(name, config):
    if name == "memory":
        return memory_stage(config), {}
    return inpainting_stage(config), {"memory": {"kept": abstract_memory(config).kept}}


def collectives(text):
    """How many numbers each exchange moves, by kind: {"all-reduce": [1, 4096], …}."""
    found = {}
    kinds = r"all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    for result, kind in re.findall(rf"= (\(.*?\)|\S+) ({kinds})(?:-start)?\(", text):
        sizes = [
            int(np.prod([int(n) for n in shape.split(",") if n]))
            for shape in re.findall(r"\w+\[([\d,]*)\]", result)
        ]
        found.setdefault(kind, []).append(sum(sizes))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory", "inpainting"])
def test_programs_sum_gradients_and_gather_nothing(name):
    """On four devices with whole groups of four examples on each, in every micro-batch."""
    config = small_config(batch_size=32, memory__batch_size=32, **SETTINGS)
    mesh = mesh_of(4)
    stage, given = stage_of(name, config)

    def placed(tree, sharding):
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    state = placed(abstract_state(stage, 0, given), replicated(mesh))
    batch = {
        "image": jax.ShapeDtypeStruct((32, SIZE, SIZE, 3), jnp.uint8),
        "mask": jax.ShapeDtypeStruct((32, SIZE, SIZE, 1), jnp.uint8),
    }
    moved = {
        "r1": ["discriminator"],
        "path": ["generator"],
        "main": list(state.variables),
    }
    for program, lowered in lower_programs(stage, state, placed(batch, split(mesh)), mesh).items():
        found = collectives(lowered.compile(compiler_options=FAST).as_text())
        weights = sum(
            leaf.size
            for part in moved[program]
            for leaf in jax.tree.leaves(state.variables[part]["params"])
        )
        # Every gradient, some in two parts, and beside them a few scalars and mean codes.
        summed = sum(found["all-reduce"])
        assert 0.9 * weights < summed < 2 * weights + 1000, (program, weights, found)
        # Style mixing hands codes to the device half a batch away; a picture has 3072 numbers.
        assert set(found) <= {"all-reduce", "collective-permute"}, (program, found)
        assert sum(found.get("collective-permute", [])) < 3 * SIZE**2, (program, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory", "inpainting"])
def test_one_and_four_devices_learn_the_same(name):
    """Adam gives a weight whose gradient is rounding its full step, so weights agree as a whole.

    Kernels alone are compared: biases in front of an instance norm have no gradient but rounding.
    """
    config = small_config(batch_size=16, memory__batch_size=16)
    stage, _ = stage_of(name, config)
    given = {"memory": {"kept": snapshot(config)}} if name == "inpainting" else {}
    begun = jax.device_get(initial(stage, given))
    results = {}
    for count in (1, 4):
        mesh = mesh_of(count)
        state = jax.device_put(begun, replicated(mesh))
        batches = [to_devices(pictures(20 + step, 16), mesh) for step in range(2)]
        constants = jax.device_put(stage.constants, replicated(mesh))
        main = lower_programs(stage, state, batches[0], mesh)["main"].compile(FAST)
        for batch in batches:
            state, scalars = main(state, {**batch, **constants})
        results[count] = jax.device_get((state, scalars))
    (single, measured), (own, scalars) = results[1], results[4]
    for key, value in measured.items():
        np.testing.assert_allclose(scalars[key], value, rtol=2e-3, atol=1e-5, err_msg=key)
    for network in begun.variables:
        begun_at, one, other = (
            np.concatenate([v.ravel() for k, v in leaves(tree).items() if "kernel" in k])
            for tree in (s.variables[network]["params"] for s in (begun, single, own))
        )
        apart, way = np.linalg.norm(other - one), np.linalg.norm(one - begun_at)
        assert apart < 0.02 * way, (network, apart, way)
    statistics = {n: tree.get("batch_stats", {}) for n, tree in single.variables.items()}
    others = {n: tree.get("batch_stats", {}) for n, tree in own.variables.items()}
    found = leaves((own.extra, others))
    for key, value in leaves((single.extra, statistics)).items():
        np.testing.assert_allclose(found[key], value, rtol=2e-3, atol=1e-4)
