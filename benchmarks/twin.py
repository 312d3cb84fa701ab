"""Compares blocks of GM-SRM in JAX with the same in PyTorch eager, on the same threads."""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time
from typing import IO, Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.blocks import Block, JaxBlock, make_blocks
from benchmarks.presets import Preset
from benchmarks.training import Emit, Row

GOAL = 1.3  # seconds in JAX over seconds in PyTorch, at most
# Largest relative error of an output or gradient: a few ReLUs with inputs that are zero but for
# rounding take the other side.
AGREES = 1e-2
_ROUNDS = 7
_TWIN = pathlib.Path(__file__).with_name("torch_twin.py")


def has_torch(python: str) -> bool:
    """Whether a Python has PyTorch."""
    try:
        found = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    except OSError:
        return False
    return found.returncode == 0


def measure_twin(
    preset: Preset, config: ConfigDict, emit: Emit, *, torch_python: str | None
) -> None:
    """Emits a row for each block, forward and backward, and an estimate for a step of each stage.

    Blocks of both kinds take turns, so that other programs on the machine slow both down alike.
    The ratio is that of the medians over the rounds of the best of a few runs. An estimate is the
    ratio of the sums over blocks, each as often as a main step of the stage runs it; codes,
    optimizers and losses are not in it.

    Args:
        preset: sizes of the blocks.
        config: their channels.
        emit: takes a row.
        torch_python: a Python with PyTorch; None: JAX alone is timed.
    """
    largest, batch = preset.twin
    threads = len(os.sched_getaffinity(0))
    common = {"section": "twin", "batch": batch, "threads": threads}
    sums = {"memory": np.zeros(2), "inpainting": np.zeros(2)}
    rounds = _ROUNDS if preset.limit else 1
    with contextlib.ExitStack() as opened:
        twin = None
        if torch_python:
            twin = opened.enter_context(contextlib.closing(_Twin(torch_python, threads)))
        for block in make_blocks(config, largest, batch):
            row, seconds = _measured(block, config.xla_optimization_level, twin, rounds)
            emit({**common, **row})
            for stage, count in block.uses.items():
                sums[stage] += count * seconds
    for stage, (ours, theirs) in sums.items():
        row = {"program": f"blocks of a step, {stage}", "seconds_median": ours}
        if torch_python:
            row |= {"torch_seconds": theirs, "ratio": ours / theirs, "goal": GOAL}
        emit({**common, **row})


def _measured(
    block: Block, level: int, twin: "_Twin | None", rounds: int
) -> tuple[Row, np.ndarray]:
    """A block's row, and its seconds in JAX and in PyTorch, NaN without a twin."""
    ours = JaxBlock(block, level)
    ours()
    row: Row = {"program": block.name, "flops": ours.flops}
    if twin is not None:
        row |= twin.load(ours)
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        jax_seconds = min(_timed(ours) for _ in range(3))
        torch_seconds = min(twin.ask({"run": 3})["seconds"]) if twin else np.nan
        times.append((jax_seconds, torch_seconds))
    seconds = np.median(times, axis=0)
    row["seconds_median"] = seconds[0]
    if twin is not None:
        row |= {
            "torch_seconds": seconds[1],
            "ratio": seconds[0] / seconds[1],
            "agrees": max(row["output_error"], row["gradient_error"]) < AGREES,
        }
    return row, seconds


def _timed(block: JaxBlock) -> float:
    started = time.perf_counter()
    block()
    return time.perf_counter() - started


class _Twin:
    """The process that runs PyTorch."""

    def __init__(self, python: str, threads: int):
        environment = dict(os.environ)
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            [python, str(_TWIN), "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout

    def ask(self, request: Any) -> Any:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"the twin ended with status {self._process.wait()}")
        return json.loads(answer)

    def load(self, block: JaxBlock) -> Row:
        """Gives it a block to run; returns how far outputs and gradients are from ours."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "block.npz"
            block.write(path)
            return self.ask({"load": str(path), "kind": block.block.kind})

    def close(self) -> None:
        self._requests.close()
        self._process.wait()
