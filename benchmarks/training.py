"""Times the training programs of a stage on random pictures that lie in memory."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.hardware import GIB, resident_peak_gib, summary
from benchmarks.presets import Preset
from benchmarks.profiles import summarise_profile
from benchmarks.stages import (
    batch_field,
    build_stage,
    first_devices,
    first_given,
    random_pictures,
    spec_of,
)
from gmsrm_jax.commands.config_files import change_fields
from gmsrm_jax.methods.base import Batch, Stage, TrainState
from gmsrm_jax.runtime.devices import check_batch, to_devices, to_every_device
from gmsrm_jax.training.forecast import bytes_of_steps
from gmsrm_jax.training.loop import compile_programs, initial_state, lower_programs

Row = dict[str, Any]
Emit = Callable[[Row], None]

_PERIOD = 48  # steps over which the lazy programs' share is counted
_TRACED = 3  # steps of a profile


def measure_training(
    preset: Preset,
    config: ConfigDict,
    emit: Emit,
    *,
    section: str,
    stage: str,
    batch: int,
    all_programs: bool,
    devices: int,
    profile: str | None = None,
) -> None:
    """Emits a row for each program, and for the average step if there are several.

    Every step is waited for; its state is donated, as in training.

    Args:
        preset: repetitions.
        config: of the run.
        emit: takes a row.
        section: the rows' "section".
        stage: name of the stage.
        batch: pictures in a step, over all devices.
        all_programs: measure those that run now and then too.
        devices: how many of those there are.
        profile: a folder for a trace of a few steps of each program.
    """
    mesh = first_devices(devices)
    if mesh.size < devices:
        raise ValueError(f"{devices} devices are asked for, {mesh.size} are there")
    measured, state, given = _ready(config, stage, mesh, batch)
    moving = measured.due(1)[-1]  # measured first, in case that the budget ends
    others = measured.programs if all_programs else {}
    measured.programs = {moving: measured.programs[moving], **others}
    common = {
        "section": section,
        "stage": stage,
        "size": config.image_size,
        "batch": batch,
        "devices": devices,
        "dtype": config.compute_dtype,
    }
    rows: dict[str, Row] = {}
    for name, lowered in lower_programs(measured, state, given, mesh).items():
        step = Step(lowered, config.xla_optimization_level, state, given)
        (times,) = preset.seconds(step)
        rows[name] = {
            **summary(times),
            "images_per_second": batch / float(np.median(times)),
            "flops": float(lowered.cost_analysis()["flops"]) * measured.accumulation,
            "compile_seconds": step.compile_seconds,
            **_memory(step.compiled),
        }
        emit({**common, "program": name, **rows[name]})
        if profile is not None:
            for row in step.traced(f"{profile}/{stage}_{name}_{batch}"):
                emit({**common, "section": "profile", "program": name, **row})
        state = step.state
        del step
    if len(rows) > 1:
        runs = [rows[name] for number in range(_PERIOD) for name in measured.due(number)]
        average, flops = (
            sum(row[what] for row in runs) / _PERIOD for what in ("seconds_median", "flops")
        )
        emit(
            {
                **common,
                "program": "average",
                "seconds_median": average,
                "images_per_second": batch / average,
                "flops": flops,
            }
        )


def _ready(
    config: ConfigDict, stage: str, mesh: jax.sharding.Mesh, batch: int | None = None
) -> tuple[Stage, TrainState, Batch]:
    """A stage, its first state and random pictures, on the devices; `batch` pictures, if given."""
    spec = spec_of(config, stage)
    measured = build_stage(config, spec)
    if batch not in (None, measured.batch_size):
        change_fields(config, [f"{batch_field(measured)}={batch}"])
        measured = build_stage(config, spec)
    for field, size in measured.batches.items():
        check_batch(field, size, mesh, measured.accumulation)
    state = initial_state(measured, config.seed, first_given(config, spec, mesh), mesh)
    pictures = to_devices(random_pictures(measured.batch_size, config.image_size), mesh)
    return measured, state, {**pictures, **to_every_device(measured.constants, mesh)}


class Step:
    """One step after another of a program, each waited for; the state before is given away."""

    def __init__(self, lowered: Any, level: int, state: TrainState, given: Batch) -> None:
        """Compiles the program at XLA's optimisation level."""
        started = time.perf_counter()
        self.compiled = lowered.compile({"xla_backend_optimization_level": str(level)})
        self.compile_seconds = time.perf_counter() - started
        self.state, self._given = state, given

    def __call__(self) -> None:
        """Makes a step and waits for it."""
        jax.block_until_ready((self.start(), self.state))

    def start(self) -> dict[str, jax.Array]:
        """Starts a step and returns its scalars, which are there when it is done."""
        self.state, scalars = self.compiled(self.state, self._given)
        return scalars

    def traced(self, folder: str) -> list[Row]:
        """Where the time of a few steps goes; the trace stays in the folder."""
        with jax.profiler.trace(folder):
            for _ in range(_TRACED):
                self()
        return summarise_profile(folder, steps=_TRACED)


def usual_step(config: ConfigDict, stage: str) -> Step:
    """The step that a stage mostly makes, compiled for one device, and run once."""
    mesh = first_devices(1)
    measured, state, given = _ready(config, stage, mesh)
    program = measured.due(1)[-1]
    measured.programs = {program: measured.programs[program]}
    lowered = lower_programs(measured, state, given, mesh)[program]
    step = Step(lowered, config.xla_optimization_level, state, given)
    step()
    return step


def measure_first_step(config: ConfigDict, emit: Emit, *, stage: str, started_at: float) -> None:
    """Emits how long a training takes from the start of the process to the end of its first step.

    Args:
        config: of the run.
        emit: takes the row.
        stage: name of the stage.
        started_at: `time.time()` when the process was started.
    """
    mesh = first_devices(1)
    imported = time.time()
    measured, state, given = _ready(config, stage, mesh)
    ready = time.time()
    lowered = lower_programs(measured, state, given, mesh)
    traced = time.time()
    compiled = compile_programs(measured, lowered, config.xla_optimization_level)
    done = time.time()
    for name in measured.due(0):
        state, _ = compiled[name](state, given)
    jax.block_until_ready(state)
    emit(
        {
            "stage": stage,
            "size": config.image_size,
            "batch": measured.batch_size,
            "import_seconds": imported - started_at,
            "weights_seconds": ready - imported,
            "trace_seconds": traced - ready,
            "compile_seconds": done - traced,
            "step_seconds": time.time() - done,
            "seconds_median": time.time() - started_at,
        }
    )


def _memory(compiled: Any) -> Row:
    """Memory in GiB: the program's by XLA, the device's and the process's highest so far."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return {
        "program_gib": bytes_of_steps([compiled]) / GIB,
        "device_peak_gib": None if peak is None else peak / GIB,
        "resident_peak_gib": resident_peak_gib(),
    }
