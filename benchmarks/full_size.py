"""Memory and time of the training steps at the paper's size: 256 px, channel base 16384.

    python benchmarks/full_size.py [--run] [--layers=3] [--programs=memory/main,inpainting/main]

Compiles each training program of both stages for the shapes of configs/paris.py and prints XLA's
memory analysis: arguments (state and batch), outputs that are not aliased to them, temporaries,
and their sum. With --run, one step of each is executed on random pictures, and the process's peak
resident memory and the step's seconds are printed too. VGG-19 weights are random here, since only
sizes and times matter.
"""

import argparse
import gc
import resource
import time
from typing import Any

import jax
import numpy as np

from gmsrm_jax.config.fields import base_config
from gmsrm_jax.foreign.networks import VGG19
from gmsrm_jax.methods.base import Stage
from gmsrm_jax.methods.gm_srm.fields import VGG_LAYERS
from gmsrm_jax.methods.gm_srm.stage_1 import MemoryStage
from gmsrm_jax.methods.gm_srm.stage_2 import InpaintingStage
from gmsrm_jax.nn.vgg import VggWeights, needed_convolutions
from gmsrm_jax.runtime.devices import data_mesh, replicated, split
from gmsrm_jax.training.loop import abstract_state, lower_programs

GIB = 2**30


def random_vgg19(layers: tuple[str, ...]) -> VggWeights:
    """Weights of the right shapes."""
    rng = np.random.default_rng(0)
    params = {}
    for name in needed_convolutions(layers):
        shape = VGG19[name].kernel
        kernel = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[:3]))
        params[name] = {"kernel": kernel.astype(np.float32), "bias": np.zeros(shape[3], np.float32)}
    return VggWeights(params, "torchvision")


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


def measure(stage: Stage, pretrained: Any, size: int, wanted: list[str], run: bool) -> None:
    """Prints a row for each wanted program of a stage."""
    mesh = data_mesh()
    state = abstract_state(stage, 0, pretrained)
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
            given = arrays_like(batch, split(mesh)) | jax.device_put(
                stage.constants, replicated(mesh)
            )
            started = time.perf_counter()
            result = jax.block_until_ready(compiled(full, given))
            seconds = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"    one step: {seconds:.1f} s; peak resident {peak:.2f} GiB", flush=True)
            del full, given, result
        del compiled
        gc.collect()


def main() -> None:
    """Measures what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--run", action="store_true", help="execute a step of each program")
    parser.add_argument("--layers", type=int, default=3, help="VGG-19 layers of the loss, 1 to 5")
    parser.add_argument("--programs", default="", help="STAGE/NAME,…; default: all")
    args = parser.parse_args()
    wanted = [name for name in args.programs.split(",") if name]
    config = base_config()
    config.inpainting.perceptual_layers = VGG_LAYERS[: args.layers]
    size = config.image_size
    validation = {
        "image": np.zeros((1, size, size, 3), np.uint8),
        "mask": np.zeros((1, size, size, 1), np.uint8),
    }
    vgg = random_vgg19(tuple(config.inpainting.perceptual_layers))
    memory = MemoryStage(config, validation, vgg)
    measure(memory, None, size, wanted, args.run)
    kept = abstract_state(memory, 0, None).kept
    measure(InpaintingStage(config, 14900, validation, vgg), kept, size, wanted, args.run)


if __name__ == "__main__":
    main()
