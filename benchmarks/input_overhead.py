"""A training step fed by the pipeline, against the same step with a batch that is there already.

    python benchmarks/input_overhead.py [--stages memory,inpainting] [--steps 8] [--blocks 15]

Runs the main program of the demo's stages (configs/demo.py). Blocks of steps of both kinds take
turns in one run, so that other programs on the machine slow both down alike. Prints a Markdown
table: the median seconds of a step of either kind, the median over pairs of blocks of the ratio of
their times, and the ratio of the processor times.
"""

import argparse
import pathlib
import runpy
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gmsrm_jax.data.loading import open_data
from gmsrm_jax.runtime.devices import replicated, to_devices
from gmsrm_jax.training.loop import initial_state, lower_programs
from gmsrm_jax.training.run import Run

_DEMO = pathlib.Path(__file__).parent.parent / "configs" / "demo.py"


class Steps:
    """A stage's main program, its state, and the pipeline that feeds it."""

    def __init__(self, run: Run, name: str, pretrained: Any) -> None:
        """Compiles the program."""
        stage = run.stage(name)
        self._mesh = run.mesh
        self._state = initial_state(stage, run.config.seed, pretrained, run.mesh)
        self._constants = jax.device_put(stage.constants, replicated(run.mesh))
        self._batches = run.data.batches(stage.batch_size, 0, stage.salt)
        self._cached = self.read()
        level = str(run.config.xla_optimization_level)
        lowered = lower_programs(stage, self._state, self._cached, run.mesh)["main"]
        self._program = lowered.compile({"xla_backend_optimization_level": level})

    def read(self) -> dict[str, Any]:
        """Takes a batch from the pipeline, as training does."""
        return {**to_devices(next(self._batches), self._mesh), **self._constants}

    def cached(self) -> dict[str, Any]:
        """Takes the batch that is there."""
        return self._cached

    def measure(self, batch: Callable[[], dict[str, Any]], steps: int) -> tuple[float, float]:
        """Returns seconds and processor seconds of a step, after a few that fill the queues."""
        self._run(batch, 4)
        started, used = time.perf_counter(), time.process_time()
        self._run(batch, steps)
        return (
            (time.perf_counter() - started) / steps,
            (time.process_time() - used) / steps,
        )

    def _run(self, batch: Callable[[], dict[str, Any]], steps: int) -> None:
        for _ in range(steps):
            self._state, _ = self._program(self._state, batch())
        jax.block_until_ready(self._state)


def main() -> None:
    """Measures what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--stages", default="memory,inpainting")
    parser.add_argument("--steps", type=int, default=8, help="steps of a block")
    parser.add_argument("--blocks", type=int, default=15, help="blocks of each kind")
    args = parser.parse_args()
    config = runpy.run_path(str(_DEMO))["get_config"]()
    print("| main program of | cached [s] | pipeline [s] | ratio | ratio of processor times |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as workdir:
        run = Run(config, pathlib.Path(workdir), open_data(config))
        memory = run.stage("memory")
        kept = initial_state(memory, config.seed, None, run.mesh).kept
        for name in args.stages.split(","):
            steps = Steps(run, name, kept if name == "inpainting" else None)
            pairs = np.array(
                [
                    (steps.measure(steps.cached, args.steps), steps.measure(steps.read, args.steps))
                    for _ in range(args.blocks)
                ]
            )  # [block, kind, (wall, processor)]
            cached, fed = np.median(pairs[:, :, 0], axis=0)
            wall, processor = np.median(pairs[:, 1] / pairs[:, 0], axis=0)
            print(
                f"| {name} | {cached:.3f} | {fed:.3f} | {wall:.3f} | {processor:.3f} |", flush=True
            )


if __name__ == "__main__":
    main()
