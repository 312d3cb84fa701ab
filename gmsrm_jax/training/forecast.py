"""What a training is likely to take, before its first step: operations, time and memory."""

import functools
import time
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gmsrm_jax.methods.base import Stage
from gmsrm_jax.runtime.devices import replicated, split

_SAMPLED = 48  # steps in a row that are looked at for the average of a step
# Pictures, side [px] and channels of the program that is measured: on a CPU for all devices, for
# they share its cores, elsewhere for each, enough to keep it busy.
_ON_CPU, _ELSEWHERE = (8, 64, 32), (32, 64, 128)


def flops_per_picture(stage: Stage, lowered: dict[str, Any]) -> dict[str, float]:
    """Floating-point operations for one picture by XLA's count, of each program and the "average".

    The average weighs the programs by how often a step runs them. XLA counts one micro-batch and
    the update of the weights, which is little beside it.
    """
    flops = {
        name: program.cost_analysis()["flops"] * stage.accumulation / stage.batch_size
        for name, program in lowered.items()
    }
    total = stage.total_steps
    # Some steps in a row, for regularisers on intervals, in ten places, for what changes later on.
    starts = {place * max(total - _SAMPLED, 0) // 9 for place in range(10)}
    steps = {step for start in starts for step in range(start, min(start + _SAMPLED, total))}
    runs = [name for step in steps for name in stage.due(step)]
    return {**flops, "average": sum(flops[name] for name in runs) / len(steps)}


@functools.cache
def measured_rate(mesh: Mesh, dtype: str) -> float:
    """Operations a second, by XLA's count, that all devices reach together.

    Measured for about a second on what trainings consist of: convolutions, instance norms,
    rescalings, and their gradients. All processes make the same call.

    Args:
        mesh: devices.
        dtype: `config.compute_dtype`.
    """
    on_cpu = jax.default_backend() == "cpu"
    count, side, channels = _ON_CPU if on_cpu else _ELSEWHERE
    rows = -(-count // mesh.size) * mesh.size if on_cpu else count * mesh.size
    shape = (rows, side, side, channels)
    whole, parts = replicated(mesh), split(mesh)
    x = jax.jit(lambda: jax.random.normal(jax.random.key(0), shape, dtype), out_shardings=parts)()
    kernel = jax.jit(
        lambda: jnp.full((3, 3, channels, channels), 0.01, dtype), out_shardings=whole
    )()
    program = jax.jit(jax.grad(_probe, argnums=(0, 1)), out_shardings=(parts, whole))
    lowered: Any = program.lower(x, kernel)
    compiled = lowered.compile()
    jax.block_until_ready(compiled(x, kernel))
    times: list[float] = []
    # Not until a time is over: every process has to run it equally often.
    while len(times) < 3:
        started = time.perf_counter()
        jax.block_until_ready(compiled(x, kernel))
        times.append(time.perf_counter() - started)
    return float(lowered.cost_analysis()["flops"]) / float(np.median(times))


def bytes_of(tree: Any) -> int:
    """Bytes of all arrays or shapes of a tree."""
    return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def bytes_of_steps(programs: Iterable[Any]) -> int:
    """Bytes on each device that the largest of these compiled programs needs, by XLA's analysis."""

    def needed(program: Any) -> int:
        memory = program.memory_analysis()
        new = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return int(memory.argument_size_in_bytes + memory.temp_size_in_bytes + new)

    return max(map(needed, programs))


def _probe(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A scalar of pictures [N, S, S, C] behind two blocks of the kernel [3, 3, C, C]."""
    for _ in range(2):
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x -= x.mean((1, 2), keepdims=True)
        x = jax.nn.relu(x * jax.lax.rsqrt(jnp.square(x).mean((1, 2), keepdims=True) + 1e-5))
        half = jax.image.resize(
            x, (x.shape[0], x.shape[1] // 2, x.shape[2] // 2, x.shape[3]), "linear"
        )
        x += jax.image.resize(half, x.shape, "linear")
    return jnp.square(x).mean().astype(jnp.float32)
