"""Memory and time of the training steps at the paper's size, 256 px.

    python -m benchmarks.full_size [--run] [--method=NAME] [--config.FIELD=VALUE]
        [--programs=memory/main,inpainting/main]

Compiles each training program of a method's stages for the shapes of its paper and prints XLA's
memory analysis: arguments (state and batch), outputs that are not aliased to them, temporaries,
and their sum. With --run, one step of each is executed on random pictures, and the process's peak
resident memory and the step's seconds are printed too. VGG-19 weights are random here, since only
sizes and times matter.
"""

import gc
import pathlib
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.hardware import GIB, resident_peak_gib
from benchmarks.stages import build_stage, with_random_vgg19
from gmsrm_jax.commands import Parser
from gmsrm_jax.commands.config_files import change_fields
from gmsrm_jax.commands.options import add_fields
from gmsrm_jax.config.fields import base_config
from gmsrm_jax.methods import DEFAULT, METHODS
from gmsrm_jax.methods.base import Stage
from gmsrm_jax.runtime.devices import data_mesh, replicated, split
from gmsrm_jax.training.handover import shapes_given
from gmsrm_jax.training.loop import abstract_state, lower_programs


def arrays_like(shapes: Any, sharding: jax.sharding.Sharding) -> Any:
    """Random small numbers in the given shapes."""
    rng = np.random.default_rng(1)

    def fill(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if np.issubdtype(leaf.dtype, np.floating):
            values = np.asarray(rng.standard_normal(leaf.shape, np.float32) * 0.02, leaf.dtype)
        else:
            values = np.zeros(leaf.shape, leaf.dtype)
        return jax.device_put(values, sharding)

    return jax.tree.map(fill, shapes)


def measure(
    stage: Stage, given: Mapping[str, Any], size: int, wanted: list[str], run: bool
) -> None:
    """Prints a row for each wanted program of a stage.

    Args:
        stage: whose programs.
        given: shapes of what its `init` is given.
        size: side of the pictures [px].
        wanted: STAGE/NAME each; all if there are none.
        run: execute a step of each.
    """
    mesh = data_mesh()
    state = abstract_state(stage, 0, given)
    shape = (stage.batch_size, size, size)
    batch = {
        "image": jax.ShapeDtypeStruct((*shape, 3), np.uint8),
        "mask": jax.ShapeDtypeStruct((*shape, 1), np.uint8),
    }
    for name, lowered in lower_programs(stage, state, batch, mesh).items():
        if wanted and f"{stage.name}/{name}" not in wanted:
            continue
        started = time.perf_counter()
        compiled = lowered.compile()
        seconds = time.perf_counter() - started
        memory = compiled.memory_analysis()
        new = memory.output_size_in_bytes - memory.alias_size_in_bytes
        total = memory.argument_size_in_bytes + new + memory.temp_size_in_bytes
        print(
            f"{stage.name}/{name}: batch {stage.batch_size}, compiled in {seconds:.0f} s; "
            f"arguments {memory.argument_size_in_bytes / GIB:.2f}, new outputs {new / GIB:.2f}, "
            f"temporaries {memory.temp_size_in_bytes / GIB:.2f}, sum {total / GIB:.2f} GiB",
            flush=True,
        )
        if run:
            full = arrays_like(state, replicated(mesh))
            pictures = arrays_like(batch, split(mesh)) | jax.device_put(
                stage.constants, replicated(mesh)
            )
            started = time.perf_counter()
            result = jax.block_until_ready(compiled(full, pictures))
            seconds = time.perf_counter() - started
            peak = resident_peak_gib()
            print(f"    one step: {seconds:.1f} s; peak resident {peak:.2f} GiB", flush=True)
            del full, pictures, result
        del compiled
        gc.collect()


def main() -> None:
    """Measures what the arguments ask for."""
    parser = Parser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="execute a step of each program")
    parser.add_argument("--method", default=DEFAULT, help="default: %(default)s")
    add_fields(parser)
    parser.add_argument("--programs", default="", help="STAGE/NAME,…; default: all")
    args = parser.parse_args()
    wanted = [name for name in args.programs.split(",") if name]
    config = base_config(args.method)
    change_fields(config, args.set)
    size = config.image_size
    with tempfile.TemporaryDirectory() as folder:
        with_random_vgg19(config, pathlib.Path(folder))
        specs = METHODS[args.method].stages_of(config)
        stages = {spec.name: build_stage(config, spec) for spec in specs}
        for spec in specs:
            given = shapes_given(config, spec, stages)
            measure(stages[spec.name], given, size, wanted, args.run)


if __name__ == "__main__":
    main()
