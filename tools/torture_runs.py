"""Small training runs for tools/torture.py: starting them, hitting them, comparing what they left.

They train both stages at 32 px from arrays made here, which takes seconds once programs are
compiled, and do not evaluate.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
import orbax.checkpoint as ocp

from gmsrm_jax.checkpoints.steps import saved_steps
from gmsrm_jax.data.arrays import write_pictures
from gmsrm_jax.data.masks.bins import center_mask
from gmsrm_jax.data.masks.files import write_mask_bank

ROOT = pathlib.Path(__file__).resolve().parent.parent
STAGES = ("memory", "inpainting")
HEARTBEAT_SECONDS = 10
_LIMIT_SECONDS = 1800.0  # after which a run is taken for hung
# What the order of sums may change, see `check_close`.
_WEIGHTS_APART = 1e-3
_SCALARS_APART = 5e-2
_CLOCK = ("seconds", "perf/images_per_second")


class Failure(Exception):
    """What should hold did not; the message says what was found."""


def make_data(folder: pathlib.Path) -> list[str]:
    """Writes pictures and masks, and returns the flags of a run on them."""
    rng = np.random.default_rng(0)
    write_pictures(folder / "train.npy", rng.integers(0, 256, (40, 48, 48, 3), dtype=np.uint8))
    masks = [np.roll(center_mask(32, r), s, 1) for r in (0.1, 0.3, 0.5) for s in (-4, 0, 6)]
    write_mask_bank(folder / "masks.npz", np.stack(masks).astype(np.uint8))
    fields = {
        "tensorboard": False,
        "data.pipeline": "arrays",
        "data.train": folder / "train.npy",
        "data.test_fraction": 0.0,
        "data.validation_bounds": "8,8",
        "masks.bank": folder / "masks.npz",
        "log_every": 3,
        "xla_optimization_level": 0,
        "model.channel_base": 64,
        "model.channel_max": 4,
        "model.code_dim": 4,
        "model.code_channels": 4,
        "memory.length_kimg": 0.192,
        "memory.path_interval": 0,
        "memory.r1_interval": 4,
        "memory.augment": "none",
        "memory.validation_samples": 8,
        "memory.save_every": 4,
        "memory.validate_every": 6,
        "inpainting.epochs": 6,
        "inpainting.perceptual_layers": "('relu1_1',)",
        "inpainting.discriminator_features": "(4, 8)",
        "inpainting.save_every": 4,
        "inpainting.validate_every": 6,
    }
    return [
        "--config=configs/folder.py:runlocal",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


class Runner:
    """Starts the training program in workdirs under one folder.

    Attributes:
        folder: of all workdirs.
    """

    def __init__(self, folder: pathlib.Path):
        """Makes the data."""
        self.folder = folder
        self._flags = make_data(folder)
        self._started = 0
        self._cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(folder / "xla")

    def start(
        self,
        workdir: pathlib.Path,
        devices: int = 4,
        environment: Mapping[str, str] | None = None,
    ) -> "Training":
        """Starts one process.

        Args:
            workdir: of the run.
            devices: virtual CPU devices of the process.
            environment: variables to set.
        """
        self._started += 1
        log = self.folder / f"output_{self._started}.txt"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "gmsrm_jax.main", *self._flags, f"--workdir={workdir}"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "JAX_PLATFORMS": "cpu",
                    "JAX_NUM_CPU_DEVICES": str(devices),
                    "JAX_COMPILATION_CACHE_DIR": self._cache,
                    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                    **(environment or {}),
                },
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return Training(process, workdir, log)

    def start_two(self, workdir: pathlib.Path) -> tuple["Training", "Training"]:
        """Starts two processes of one run, with two devices each."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        first, second = (
            self.start(
                workdir,
                2,
                {
                    "GMSRM_COORDINATOR": address,
                    "GMSRM_NUM_PROCESSES": "2",
                    "GMSRM_PROCESS_ID": str(index),
                    "GMSRM_HEARTBEAT_TIMEOUT": str(HEARTBEAT_SECONDS),
                },
            )
            for index in range(2)
        )
        return first, second

    def finish(self, workdir: pathlib.Path, devices: int = 4) -> "Training":
        """Runs to the end."""
        training = self.start(workdir, devices)
        training.must_end(0)
        return training


class Training:
    """One process of a run."""

    def __init__(self, process: subprocess.Popen, workdir: pathlib.Path, log: pathlib.Path):
        """Takes a process that was started."""
        self.process, self.workdir, self.log = process, workdir, log
        self._lines_before = log_lines(workdir)

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def end(self, seconds: float = _LIMIT_SECONDS) -> int:
        """Waits for its end, and returns the exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise Failure(f"did not end within {seconds:.0f} s\n{self.output()[-2000:]}") from error

    def must_end(self, status: int) -> None:
        """Waits for its end, which must have this status."""
        found = self.end()
        if found != status:
            raise Failure(f"ended with {found}, not {status}\n{self.output()[-3000:]}")

    def wait_for(self, happened: Callable[[], bool]) -> bool:
        """Waits until something happens; False if the process ends before."""
        deadline = time.monotonic() + _LIMIT_SECONDS
        while self.process.poll() is None:
            if happened():
                return True
            if time.monotonic() > deadline:
                self.process.kill()
                raise Failure(f"nothing happened for {_LIMIT_SECONDS:.0f} s")
            time.sleep(0.002)
        return False

    def wait_for_lines(self, more: int) -> bool:
        """Waits until the logs are `more` lines longer than at its start."""
        return self.wait_for(lambda: log_lines(self.workdir) >= self._lines_before + more)

    def wait_for_save(self) -> bool:
        """Waits until a checkpoint is being written."""
        before = _entries(self.workdir)
        return self.wait_for(lambda: bool(_entries(self.workdir) - before))

    def hit(self, rng: random.Random, number: signal.Signals, moment: str) -> str:
        """Sends a signal at a random moment.

        Args:
            rng: draws the moment.
            number: the signal.
            moment: "start", "step" or "save": what it comes shortly after.

        Returns:
            When that was, in words.
        """
        if moment == "start":
            delay = rng.uniform(0.0, 8.0)
        elif moment == "step":
            lines = rng.randint(1, 8)
            self.wait_for_lines(lines)
            moment, delay = f"{lines} lines on", rng.uniform(0.0, 0.5)
        else:
            self.wait_for_save()
            delay = rng.uniform(0.0, 0.15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(delay)
        if self.process.poll() is None:
            self.process.send_signal(number)
        return f"{moment} + {delay:.3f} s"


def log_lines(workdir: pathlib.Path) -> int:
    """Lines in the logs of both stages; there is one for every second step or so."""
    total = 0
    for stage in STAGES:
        path = workdir / stage / "log.jsonl"
        if path.exists():
            total += len(path.read_bytes().splitlines())
    return total


def newest_step(workdir: pathlib.Path, stage: str) -> int:
    """The highest step that was saved whole; 0 if there is none."""
    return max(saved_steps(workdir / stage / "checkpoints"), default=0)


def last_state(workdir: pathlib.Path, stage: str) -> dict[str, np.ndarray]:
    """Every array of a stage's newest checkpoint, by path."""
    folder = workdir / stage / "checkpoints" / str(newest_step(workdir, stage))
    arrays = {}
    with ocp.PyTreeCheckpointer() as checkpointer:
        for item in sorted(path for path in folder.iterdir() if (path / "_METADATA").exists()):
            tree = checkpointer.metadata(item).item_metadata.tree
            host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            restored = checkpointer.restore(item, restore_args=host)
            for path, leaf in jax.tree_util.tree_leaves_with_path(restored):
                arrays[item.name + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return arrays


def scalars(workdir: pathlib.Path, stage: str) -> dict[tuple[int, int], dict[str, float]]:
    """The log's lines without what depends on the clock, by the steps that they are means of.

    Where a signal stopped a run its log has one line more.
    """
    text = (workdir / stage / "log.jsonl").read_text(encoding="utf-8")
    found: dict[tuple[int, int], dict[str, float]] = {}
    before = 0
    for line in map(json.loads, text.splitlines()):
        found[before, line["step"]] = {k: v for k, v in line.items() if k not in _CLOCK}
        before = line["step"]
    return found


def check_same(workdir: pathlib.Path, reference: pathlib.Path) -> str:
    """Checks that two finished runs left the same bits in checkpoints and logs."""
    for stage in STAGES:
        expected, found = last_state(reference, stage), last_state(workdir, stage)
        different = [
            name
            for name in sorted(expected.keys() | found.keys())
            if not np.array_equal(expected.get(name, np.nan), found.get(name, np.nan))
        ]
        if different or not expected:
            raise Failure(f"{stage}: {len(different)} of {len(expected)} arrays differ")
        lines, others = scalars(workdir, stage), scalars(reference, stage)
        common = lines.keys() & others.keys()
        if not common or any(lines[steps] != others[steps] for steps in common):
            raise Failure(f"{stage}: the logs differ")
    return "bit-identical"


def check_close(workdir: pathlib.Path, reference: pathlib.Path) -> str:
    """Checks that two finished runs logged nearly the same, and have nearly the same weights.

    Sums over other devices are taken in another order, and where a gradient is next to nothing Adam
    makes of rounding steps as long as any. Moves from one device to four at eight different steps
    left weights within 2.4e-4, as a whole, and scalars within 2.0e-2 of the largest that each is in
    the run (some come close to zero). One of the 40 pictures upside down makes 1.8e-3 and 0.8.

    Args:
        workdir: of a run.
        reference: of another one.

    Returns:
        The largest differences, in words.
    """
    weights, logged, worst = 0.0, 0.0, ""
    for stage in STAGES:
        expected, found = last_state(reference, stage), last_state(workdir, stage)
        if expected.keys() != found.keys():
            raise Failure(f"{stage}: other arrays")
        names = [
            name
            for name in expected
            if name.startswith(("variables", "average")) and "['params']" in name
        ]
        size = np.sqrt(sum(np.square(expected[name]).sum() for name in names))
        apart = np.sqrt(sum(np.square(found[name] - expected[name]).sum() for name in names))
        weights = max(weights, float(apart / size))
        lines = scalars(reference, stage)
        others = scalars(workdir, stage)
        largest = {name: 0.0 for line in lines.values() for name in line}
        for name in largest:
            largest[name] = max(abs(line[name]) for line in lines.values() if name in line)
        for steps in lines.keys() & others.keys():
            then, now = lines[steps], others[steps]
            if then.keys() != now.keys():
                raise Failure(f"{stage}, step {then['step']}: other scalars in the log")
            for name, value in then.items():
                off = abs(now[name] - value) / max(largest[name], 1e-2)
                if off > logged:
                    logged, worst = off, f" ({name})"
    note = f"weights within {weights:.1e}, logged scalars within {logged:.1e}{worst}"
    if not (weights <= _WEIGHTS_APART and logged <= _SCALARS_APART):
        raise Failure(f"{note}; {_WEIGHTS_APART:g} and {_SCALARS_APART:g} are allowed")
    return note


def _entries(workdir: pathlib.Path) -> set[str]:
    return {
        f"{stage}/{path.name}"
        for stage in STAGES
        for path in (workdir / stage / "checkpoints").glob("*")
    }
