"""Times the training programs of a stage on random pictures that lie in memory."""

import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from benchmarks.full_size import random_vgg19
from benchmarks.hardware import GIB, summary
from benchmarks.presets import Preset, make_config
from benchmarks.profiles import summarise_profile
from gmsrm_jax.methods.base import Batch, Stage
from gmsrm_jax.methods.gm_srm.distance import DISTANCE_LAYERS
from gmsrm_jax.methods.gm_srm.stage_1 import MemoryStage
from gmsrm_jax.methods.gm_srm.stage_2 import InpaintingStage
from gmsrm_jax.runtime.devices import check_batch, to_devices, to_every_device
from gmsrm_jax.training.loop import compile_programs, initial_state, lower_programs

Row = dict[str, Any]
Emit = Callable[[Row], None]

_PERIOD = 48  # steps over which the lazy programs' share is counted
_PICTURES = 14900  # of an epoch; it only moves the learning rate


def random_pictures(count: int, size: int) -> dict[str, np.ndarray]:
    """Noise with a square hole, uint8."""
    rng = np.random.default_rng(0)
    mask = np.zeros((count, size, size, 1), np.uint8)
    mask[:, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    return {"image": rng.integers(0, 256, (count, size, size, 3), np.uint8), "mask": mask}


def stage_config(preset: Preset, stage: str, batch: int) -> ConfigDict:
    """The preset's config with this batch in the stage."""
    config = make_config(preset.config)
    (config if stage == "inpainting" else config.memory).batch_size = batch
    return config.lock()


def build_stages(config: ConfigDict) -> dict[str, Stage]:
    """Both stages with random VGG-19 weights: only sizes and times matter."""
    validation = random_pictures(1, config.image_size)
    layers = max(tuple(config.inpainting.perceptual_layers), DISTANCE_LAYERS, key=len)
    vgg = random_vgg19(layers)
    return {
        "memory": MemoryStage(config, validation, vgg),
        "inpainting": InpaintingStage(config, _PICTURES, validation, vgg),
    }


def first_devices(count: int) -> Mesh:
    """A mesh over the first devices, like `devices.data_mesh`."""
    devices = jax.devices()[:count]
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def measure_training(
    preset: Preset,
    emit: Emit,
    *,
    section: str,
    stage: str,
    batch: int,
    programs: list[str],
    devices: int,
    profile: str | None = None,
) -> None:
    """Emits a row for each program, and for the average step if all programs were measured.

    Every step is waited for; its state is donated, as in training.

    Args:
        preset: sizes and repetitions.
        emit: takes a row.
        section: the rows' "section".
        stage: "memory" or "inpainting".
        batch: pictures in a step, over all devices.
        programs: names of those to measure, in this order.
        devices: how many of those there are.
        profile: a folder for a trace of a few steps of each program.
    """
    config = stage_config(preset, stage, batch)
    mesh = first_devices(devices)
    if mesh.size < devices:
        raise ValueError(f"{devices} devices are asked for, {mesh.size} are there")
    check_batch("batch_size" if stage == "inpainting" else "memory.batch_size", batch, mesh)
    stages = build_stages(config)
    measured, pretrained = stages[stage], None
    if stage == "inpainting":
        pretrained = initial_state(stages["memory"], config.seed, None, mesh).kept
    state = initial_state(measured, config.seed, pretrained, mesh)
    pictures = to_devices(random_pictures(batch, config.image_size), mesh)
    given: Batch = {**pictures, **to_every_device(measured.constants, mesh)}
    everything = set(measured.programs) <= set(programs)
    measured.programs = {name: measured.programs[name] for name in programs}
    level = str(config.xla_optimization_level)
    seconds, flops = {}, {}
    for name, lowered in lower_programs(measured, state, given, mesh).items():
        started = time.perf_counter()
        compiled = lowered.compile({"xla_backend_optimization_level": level})
        compile_seconds = time.perf_counter() - started
        flops[name] = float(lowered.cost_analysis()["flops"]) * measured.accumulation
        times: list[float] = []
        end = np.inf
        while len(times) < preset.warm_up + preset.repetitions and time.perf_counter() < end:
            started = time.perf_counter()
            state, scalars = compiled(state, given)
            jax.block_until_ready((state, scalars))
            times.append(time.perf_counter() - started)
            if len(times) == preset.warm_up + 1:
                end = time.perf_counter() + preset.limit
        times = times[preset.warm_up :]
        seconds[name] = float(np.median(times))
        common = {
            "section": section,
            "stage": stage,
            "size": config.image_size,
            "batch": batch,
            "devices": devices,
            "dtype": config.compute_dtype,
        }
        emit(
            {
                **common,
                "program": name,
                **summary(times),
                "images_per_second": batch / seconds[name],
                "flops": flops[name],
                "compile_seconds": compile_seconds,
                **_memory(compiled),
            }
        )
        if profile is not None:
            folder = f"{profile}/{stage}_{name}_{batch}"
            with jax.profiler.trace(folder):
                for _ in range(3):
                    state, scalars = compiled(state, given)
                    jax.block_until_ready((state, scalars))
            for row in summarise_profile(folder, steps=3):
                emit({**common, "section": "profile", "program": name, **row})
        del compiled
    if everything and len(programs) > 1:
        runs = [name for step in range(_PERIOD) for name in measured.due(step)]
        average = sum(seconds[name] for name in runs) / _PERIOD
        emit(
            {
                **common,
                "program": "average",
                "seconds_median": average,
                "images_per_second": batch / average,
                "flops": sum(flops[name] for name in runs) / _PERIOD,
            }
        )


def measure_first_step(preset: Preset, emit: Emit, *, stage: str, started_at: float) -> None:
    """Emits how long a training takes from the start of the process to the end of its first step.

    Args:
        preset: sizes.
        emit: takes the row.
        stage: "memory" or "inpainting".
        started_at: `time.time()` when the process was started.
    """
    batch = next(b for name, b, _ in preset.training if name == stage)
    config = stage_config(preset, stage, batch)
    mesh = first_devices(1)
    imported = time.time()
    stages = build_stages(config)
    measured, pretrained = stages[stage], None
    if stage == "inpainting":
        pretrained = initial_state(stages["memory"], config.seed, None, mesh).kept
    state = initial_state(measured, config.seed, pretrained, mesh)
    pictures = to_devices(random_pictures(batch, config.image_size), mesh)
    given: Batch = {**pictures, **to_every_device(measured.constants, mesh)}
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
            "batch": batch,
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
    found = compiled.memory_analysis()
    new = found.output_size_in_bytes - found.alias_size_in_bytes
    total = found.argument_size_in_bytes + new + found.temp_size_in_bytes
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "program_gib": total / GIB,
        "device_peak_gib": None if peak is None else peak / GIB,
        "resident_peak_gib": resident / GIB,
    }
