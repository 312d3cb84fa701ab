"""The one training loop: it runs any stage, and resumes it exactly where its checkpoints end."""

import concurrent.futures
import itertools
import math
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from gmsrm_jax.checkpoints import Checkpoints, checkpoint_folder
from gmsrm_jax.data.loading import TrainingData
from gmsrm_jax.devices import replicated, to_devices
from gmsrm_jax.errors import UserError
from gmsrm_jax.run_log import Progress, RunLog, format_seconds, say
from gmsrm_jax.stages.base import Batch, Stage, TrainState

Compiled = dict[str, Any]


def abstract_state(stage: Stage, seed: int, pretrained: Any) -> TrainState:
    """Shapes of a stage's state, without computing anything."""
    return jax.eval_shape(stage.init, jax.random.key(seed), pretrained)


def initial_state(stage: Stage, seed: int, pretrained: Any, mesh: Mesh) -> TrainState:
    """The state before the first step, on every device."""
    key = jax.random.key(seed)
    lowered = jax.jit(stage.init, out_shardings=replicated(mesh)).lower(key, pretrained)
    # It runs once: hundreds of small random-number kernels take longer to optimise than to run.
    return lowered.compile(compiler_options={"xla_backend_optimization_level": "0"})(
        key, pretrained
    )


def lower_programs(stage: Stage, state: Any, batch: Any, mesh: Mesh) -> dict[str, Any]:
    """Lowers every training program for this state and batch, with the state's memory reused.

    Args:
        stage: supplies the programs.
        state: its state, as arrays or shapes.
        batch: pictures and masks, likewise; the stage's constants are added if they are not there.
        mesh: devices.
    """
    whole, batch = replicated(mesh), {**stage.constants, **batch}
    return {
        name: jax.jit(program, donate_argnums=0, out_shardings=(whole, whole)).lower(state, batch)
        for name, program in stage.programs.items()
    }


def say_flops(stage: Stage, lowered: dict[str, Any]) -> None:
    """Says the floating-point operations for one picture by XLA's count.

    The average weighs the programs by how often a step runs them.
    """
    flops = {
        name: program.cost_analysis()["flops"] / stage.batch_size
        for name, program in lowered.items()
    }
    period = min(stage.total_steps, 48)
    runs = [name for step in range(period) for name in stage.due(step)]
    flops["average"] = sum(flops[name] for name in runs) / period
    shown = ", ".join(f"{name} {value / 1e9:.2f}" for name, value in flops.items())
    say(f"{stage.name}: GFLOP per picture: {shown}")


def compile_programs(stage: Stage, lowered: dict[str, Any], optimization_level: int) -> Compiled:
    """Compiles side by side at a level of LLVM, and says how long it took."""
    options: dict[str, str | bool] = {"xla_backend_optimization_level": str(optimization_level)}
    say(f"{stage.name}: compiling {', '.join(lowered)} …")
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiled = dict(
            zip(
                lowered,
                pool.map(lambda program: program.compile(options), lowered.values()),
                strict=True,
            )
        )
    say(f"{stage.name}: compiled in {format_seconds(time.monotonic() - started)}")
    return compiled


def train_stage(
    stage: Stage,
    *,
    data: TrainingData,
    workdir: pathlib.Path,
    mesh: Mesh,
    seed: int,
    pretrained: Any = None,
    log_every: int,
    optimization_level: int,
    tensorboard: bool,
) -> None:
    """Runs a stage to its end; its last state is its last checkpoint.

    A stage whose last checkpoint is at its last step is not run again. The state after step k is
    a function of config and data alone, however often the run was stopped and resumed before k.

    Args:
        stage: what to train.
        data: where batches come from.
        workdir: the run's folder; the stage writes to its sub-folder.
        mesh: devices.
        seed: of the initial weights.
        pretrained: what an earlier stage hands over.
        log_every: steps between two lines of the log.
        optimization_level: LLVM's, for the training programs.
        tensorboard: write TensorBoard files as well.

    Raises:
        UserError: a loss is not finite.
    """
    checkpoints = Checkpoints(checkpoint_folder(workdir, stage.name))
    start = checkpoints.latest() or 0
    if start >= stage.total_steps:
        say(f"{stage.name}: finished before, nothing to do")
        checkpoints.finish()
        return
    if start:
        target = abstract_state(stage, seed, pretrained)
        state = checkpoints.restore(start, target, replicated(mesh))
        say(f"{stage.name}: resuming at step {start} of {stage.total_steps}")
    else:
        state = initial_state(stage, seed, pretrained, mesh)
    log = RunLog(workdir / stage.name, start, tensorboard)
    batches = data.batches(
        stage.batch_size, start, stage.salt, jax.process_index(), jax.process_count()
    )
    try:
        constants = jax.device_put(stage.constants, replicated(mesh))
        on_devices = ({**to_devices(batch, mesh), **constants} for batch in batches)
        batch = next(on_devices)
        lowered = lower_programs(stage, state, batch, mesh)
        say_flops(stage, lowered)
        programs = compile_programs(stage, lowered, optimization_level)
        batches = itertools.chain([batch], on_devices)
        _run(stage, state, start, programs, batches, checkpoints, log, log_every)
    finally:
        checkpoints.finish()
        log.close()


def _run(
    stage: Stage,
    state: TrainState,
    start: int,
    programs: Compiled,
    batches: Iterator[Batch],
    checkpoints: Checkpoints,
    log: RunLog,
    log_every: int,
) -> None:
    """Runs the steps after `start`: train, look, log, validate, save."""
    progress = Progress(stage.name, start, stage.total_steps, stage.batch_size)
    pending: list[tuple[int, dict[str, jax.Array]]] = []
    total = stage.total_steps
    for step in range(start, total):
        batch = next(batches)
        scalars: dict[str, jax.Array] = {}
        for name in stage.due(step):
            state, measured = programs[name](state, batch)
            scalars |= measured
        done = step + 1
        pending.append((done, scalars))
        last = done == total
        validate, save = (
            last or done % every == 0 for every in (stage.validate_every, stage.save_every)
        )
        if not (last or validate or save or done % log_every == 0):
            continue
        means = _collect(stage, pending, checkpoints)
        pending = []
        means["perf/images_per_second"] = progress.rate(done)
        if validate:
            paused = time.monotonic()
            state, scores = stage.validate(state)
            _check_finite(stage, done, scores, checkpoints)
            means |= scores
            log.panels(done, stage.panels(state))
            progress.pause(time.monotonic() - paused)
        log.scalars(done, done * stage.batch_size, means)
        progress.update(done, _note(means))
        if save:
            checkpoints.save(state)
    progress.close()


def _collect(
    stage: Stage, pending: list[tuple[int, dict[str, jax.Array]]], checkpoints: Checkpoints
) -> dict[str, float]:
    """Means of the scalars since the last look, after checking every one of them.

    Raises:
        UserError: one is not finite; names it, its step and the last good checkpoint. Nothing is
            saved between a step and its check, so every checkpoint is good.
    """
    sums: dict[str, list[float]] = {}
    for step, scalars in jax.device_get(pending):
        _check_finite(stage, step, scalars, checkpoints)
        for name, value in scalars.items():
            sums.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in sums.items()}


def _check_finite(
    stage: Stage, step: int, scalars: Mapping[str, float], checkpoints: Checkpoints
) -> None:
    for name, value in scalars.items():
        if not math.isfinite(value):
            good = checkpoints.latest()
            where = f"step {good} in {checkpoints.folder}" if good is not None else "none yet"
            raise UserError(
                f"{stage.name}: {name} is {value} at step {step}; last good checkpoint: {where}. "
                "Check the data or lower the learning rate, in another --workdir"
            )


def _note(means: dict[str, float]) -> str:
    """The losses and validation scores as a short text."""
    shown = {
        name.split("/")[1]: value
        for name, value in means.items()
        if name.startswith(("loss/", "validation/"))
    }
    return ", ".join(f"{name} {value:.3g}" for name, value in shown.items())
