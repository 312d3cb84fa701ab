"""A training step fed by the pipeline, against the same step with a batch that is there already.

    python -m benchmarks.input_overhead [--method NAME] [--stages NAME,NAME] [--steps 8]
        [--blocks 15]

Runs the program that moves the weights, of the demo's stages (configs/demo.py). Blocks of steps of
both kinds take turns in one run, so that other programs on the machine slow both down alike. Prints
a Markdown table: the median seconds of a step of either kind, the median over pairs of blocks of
the ratio of their times, and the ratio of the processor times.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.presets import PRESETS, make_config
from benchmarks.stages import first_given
from gmsrm_jax.data.loading import open_data
from gmsrm_jax.methods import DEFAULT, METHODS
from gmsrm_jax.methods.base import StageSpec
from gmsrm_jax.runtime.devices import replicated, to_devices
from gmsrm_jax.training.loop import initial_state, lower_programs
from gmsrm_jax.training.run import Run


class Steps:
    """The program of a stage that moves the weights, its state, and the pipeline that feeds it."""

    def __init__(self, run: Run, spec: StageSpec) -> None:
        """Compiles the program."""
        stage = spec.build(run.context)
        self._mesh = run.mesh
        given = first_given(run.config, spec, run.mesh)
        self._state = initial_state(stage, run.config.seed, given, run.mesh)
        self._constants = jax.device_put(stage.constants, replicated(run.mesh))
        self._batches = run.data.batches(stage.batch_size, 0, stage.stream)
        self._cached = self.read()
        level = str(run.config.xla_optimization_level)
        moving = stage.due(1)[-1]
        stage.programs = {moving: stage.programs[moving]}
        lowered = lower_programs(stage, self._state, self._cached, run.mesh)[moving]
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
    parser.add_argument("--method", default=DEFAULT, help="default: %(default)s")
    parser.add_argument("--stages", default="", help="names; default: all of the method's")
    parser.add_argument("--steps", type=int, default=8, help="steps of a block")
    parser.add_argument("--blocks", type=int, default=15, help="blocks of each kind")
    args = parser.parse_args()
    config = make_config(PRESETS["cpu"], args.method)
    wanted = [name for name in args.stages.split(",") if name]
    print("| program of | cached [s] | pipeline [s] | ratio | ratio of processor times |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as workdir:
        run = Run(config, pathlib.Path(workdir), open_data(config), {})
        for spec in METHODS[args.method].stages_of(config):
            if wanted and spec.name not in wanted:
                continue
            steps = Steps(run, spec)
            pairs = np.array(
                [
                    (steps.measure(steps.cached, args.steps), steps.measure(steps.read, args.steps))
                    for _ in range(args.blocks)
                ]
            )  # [block, kind, (wall, processor)]
            cached, fed = np.median(pairs[:, :, 0], axis=0)
            wall, processor = np.median(pairs[:, 1] / pairs[:, 0], axis=0)
            print(
                f"| {spec.name} | {cached:.3f} | {fed:.3f} | {wall:.3f} | {processor:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
