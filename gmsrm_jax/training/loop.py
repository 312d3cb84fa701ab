"""The one training loop: it runs any stage, and resumes it exactly where its checkpoints end."""

import concurrent.futures
import contextlib
import itertools
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.data.training_data import TrainingData
from gmsrm_jax.methods.base import Batch, Stage, TrainState
from gmsrm_jax.runtime.devices import replicated, split, to_devices, to_every_device
from gmsrm_jax.runtime.errors import Stopped, UserError
from gmsrm_jax.runtime.heartbeat import Beat, heartbeat
from gmsrm_jax.runtime.image_grid import grid
from gmsrm_jax.runtime.log import Progress, RunLog, format_seconds, say
from gmsrm_jax.runtime.processes import from_process_0, gather, stop_agreed, wait_for_all
from gmsrm_jax.runtime.signals import noticed_by_steps, signal_received, unless_signalled
from gmsrm_jax.training.finite import FiniteCheck, guarded
from gmsrm_jax.training.forecast import bytes_of_steps

Compiled = dict[str, Any]
_LONG_STEP_SECONDS = 1.0


def abstract_state(stage: Stage, seed: int, given: Mapping[str, Any]) -> TrainState:
    """Shapes of a stage's state, without computing anything."""
    return jax.eval_shape(stage.init, jax.random.key(seed), given)


def initial_state(stage: Stage, seed: int, given: Mapping[str, Any], mesh: Mesh) -> TrainState:
    """The state before the first step, on every device."""
    key = jax.random.key(seed)
    lowered = jax.jit(stage.init, out_shardings=replicated(mesh)).lower(key, given)
    # It runs once: hundreds of small random-number kernels take longer to optimise than to run.
    return lowered.compile(compiler_options={"xla_backend_optimization_level": "0"})(key, given)


def lower_programs(
    stage: Stage, state: Any, batch: Any, mesh: Mesh, guard: bool = False
) -> dict[str, Any]:
    """Lowers every training program for this state and batch, with the state's memory reused.

    JAX keeps what it traced: for the same stage a second call takes no time.

    Args:
        stage: supplies the programs.
        state: its state, as arrays or shapes.
        batch: pictures and masks of all processes, likewise; the stage's constants are added.
        mesh: devices.
        guard: leave out updates that are not finite, see `finite.guarded`.
    """
    whole = replicated(mesh)
    pictures = {name: leaf for name, leaf in batch.items() if name not in stage.constants}
    state, constants = _shapes(state, whole), _shapes(stage.constants, whole)
    given = {**constants, **_shapes(pictures, split(mesh))}
    return {
        name: jax.jit(
            guarded(name, program) if guard else program,
            donate_argnums=0,
            out_shardings=(whole, whole),
        ).lower(state, given)
        for name, program in stage.programs.items()
    }


def _shapes(tree: Any, sharding: NamedSharding) -> Any:
    """The shapes of arrays as they are on the devices."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype), sharding=sharding
        ),
        tree,
    )


def compile_programs(stage: Stage, lowered: dict[str, Any], optimization_level: int) -> Compiled:
    """Compiles side by side at a level of LLVM, and says how long it took, and the memory."""
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
    took = format_seconds(time.monotonic() - started)
    gib = bytes_of_steps(compiled.values()) / 2**30
    say(f"{stage.name}: compiled in {took}; a step needs {gib:.2g} GiB on each device")
    return compiled


def train_stage(
    stage: Stage,
    *,
    data: TrainingData,
    workdir: pathlib.Path,
    mesh: Mesh,
    seed: int,
    given: Mapping[str, Any] | None = None,
    log_every: int,
    optimization_level: int,
    tensorboard: bool,
    max_skipped_updates: int = 0,
) -> None:
    """Runs a stage to its end; its last state is its last checkpoint.

    A stage whose last checkpoint is at its last step is not run again. The state after step k is
    a function of config and data alone, however often the run was stopped and resumed before k.
    All processes make the same calls; process 0 writes.

    Args:
        stage: what to train.
        data: where batches come from.
        workdir: the run's folder; the stage writes to its sub-folder.
        mesh: devices.
        seed: of the initial weights.
        given: what `StageSpec` asked for, see `Stage.init`.
        log_every: steps between two lines of the log.
        optimization_level: LLVM's, for the training programs.
        tensorboard: write TensorBoard files as well.
        max_skipped_updates: updates in a row that may be left out, as not finite.

    Raises:
        NotFinite: a loss, a gradient norm or a score is not finite.
        Stopped: a signal came to one of the processes; everything is saved.
        UserError: a save failed, or the checkpoints are not those of this run.
    """
    folder, given = workdir / stage.name, given or {}
    checkpoints = Checkpoints(checkpoint_folder(workdir, stage.name))
    with heartbeat() as beat, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(checkpoints.finish)
        start = checkpoints.newest_good() or 0
        if start > stage.total_steps:
            raise UserError(
                f"{checkpoints.folder} stands at step {start}, but the stage has only "
                f"{stage.total_steps}; use another --workdir"
            )
        if start == stage.total_steps:
            say(f"{stage.name}: finished before, nothing to do")
            return
        if start:
            target = abstract_state(stage, seed, given)
            state = checkpoints.restore(start, target, replicated(mesh))
            say(f"{stage.name}: resuming at step {start} of {stage.total_steps}")
        else:
            beat(f"{stage.name}: drawing the first weights")
            state = initial_state(stage, seed, given, mesh)
        log = RunLog(folder, start, tensorboard) if jax.process_index() == 0 else None
        if log is not None:
            at_the_end.callback(log.close)
        check = FiniteCheck(stage.name, checkpoints, max_skipped_updates)
        loop = _Loop(stage, data, checkpoints, log, check, log_every, beat)
        beat(f"{stage.name}: reading the first batch")
        constants = to_every_device(stage.constants, mesh)
        rows = data.batches(
            stage.batch_size, start, stage.stream, jax.process_index(), jax.process_count()
        )
        on_devices = ({**to_devices(batch, mesh), **constants} for batch in rows)
        batch = next(on_devices)
        lowered = lower_programs(stage, state, batch, mesh, max_skipped_updates > 0)
        beat(f"{stage.name}: compiling")
        programs = compile_programs(stage, lowered, optimization_level)
        beat("")
        wait_for_all()
        batches = itertools.chain([batch], on_devices)
        with noticed_by_steps(lambda: f"{stage.name}: {checkpoints.newest()}"):
            stopped = loop.run(state, start, programs, batches)
            # Inside, so that a signal does not end the process before the save is whole.
            checkpoints.finish()
    newest = from_process_0(checkpoints.latest)
    # A signal of the last moment: only the process that it came to knows of it.
    if stopped or any(gather(signal_received())):
        message = (
            f"{stage.name}: stopped by a signal, and saved; the same command goes on from step "
            f"{newest} of {stage.total_steps}"
        )
        say(message)
        raise Stopped(message)
    if newest != stage.total_steps:
        raise UserError(
            f"{checkpoints.folder}: the newest checkpoint is of step {newest}, but the "
            f"stage ended at {stage.total_steps}; start again, and let nothing else write there"
        )


class _Loop:
    """The steps of one stage: train, look, log, validate, save."""

    def __init__(
        self,
        stage: Stage,
        data: TrainingData,
        checkpoints: Checkpoints,
        log: RunLog | None,
        check: FiniteCheck,
        log_every: int,
        beat: Beat,
    ):
        self.stage, self.data, self.log_every, self.beat = stage, data, log_every, beat
        self.checkpoints, self.log, self.check = checkpoints, log, check

    def run(
        self, state: TrainState, start: int, programs: Compiled, batches: Iterator[Batch]
    ) -> bool:
        """Runs the steps after `start`; returns whether a signal stopped it before the last."""
        stage, total = self.stage, self.stage.total_steps
        if start and start % stage.validate_every == 0 and from_process_0(self._owes_scores):
            # The signal that stopped the run did not wait for them.
            look = self._look(state, start)
            if look is None:
                return True
            state = look.state
            self._write(start, look.scores, look.panels)
        progress = Progress(stage.name, start, total, stage.batch_size, self.log is not None)
        pace = _Pace()
        # Scalars since the last line of the log.
        pending: list[tuple[int, dict[str, jax.Array]]] = []
        for step in range(start, total):
            self.beat(f"{stage.name}: step {step + 1} of {total}")
            batch = next(batches)
            scalars: dict[str, jax.Array] = {}
            for name in stage.due(step):
                state, measured = programs[name](state, batch)
                scalars |= measured
            done = step + 1
            pending.append((done, scalars))
            pace.wait([values for _, values in pending[-2:]])
            last, stopping = done == total, stop_agreed()
            validate, save = (
                last or done % every == 0 for every in (stage.validate_every, stage.save_every)
            )
            if not (stopping or validate or save or done % self.log_every == 0):
                continue
            means = self.check.means(
                [
                    (at, {name: float(value) for name, value in values.items()})
                    for at, values in jax.device_get(pending)
                ]
            )
            pending = []
            if self.data.bad is not None:
                self.data.bad.share(gather)
            means["perf/images_per_second"] = progress.rate(done)
            look = None
            # A stage that is saved at its last step is finished, with its scores.
            if validate and (last or not stopping):
                paused = time.monotonic()
                look = self._look(state, done)
                progress.pause(time.monotonic() - paused)
                stopping = stopping or look is None
            if look is not None:
                state = look.state
                means |= look.scores
            self._write(done, means, look.panels if look is not None else {})
            progress.update(done, _note(means))
            if save or stopping:
                self.beat(f"{stage.name}: saving step {done}")
                self.checkpoints.save(state)
            if stopping and not last:
                progress.close()
                return True
        progress.close()
        return False

    def _look(self, state: TrainState, done: int) -> "_Look | None":
        """Validates; None if a signal came to a process alone, and the step is not the last."""

        def look() -> _Look:
            # Each process computed them for itself; what is kept by them must be the same.
            scores = gather(self.stage.validate(state))[0]
            self.check.scores(done, scores)
            kept = self.stage.keep(state, scores)
            panels = {name: grid(*panel) for name, panel in self.stage.panels(kept).items()}
            return _Look(kept, scores, panels)

        self.beat(f"{self.stage.name}: validation at step {done}")
        return look() if done == self.stage.total_steps else unless_signalled(look)

    def _owes_scores(self) -> bool:
        """Whether the newest line of the log is without scores, in process 0."""
        return self.log is not None and not any(map(_is_score, self.log.last))

    def _write(
        self, done: int, scalars: Mapping[str, float], panels: Mapping[str, np.ndarray]
    ) -> None:
        if self.log is not None:
            if panels:
                self.log.panels(done, panels)
            self.log.scalars(done, done * self.stage.batch_size, scalars)


class _Look(NamedTuple):
    """A validation: the state that keeps what it found, scores, and pictures uint8 [H, W, 3]."""

    state: TrainState
    scores: dict[str, float]
    panels: dict[str, np.ndarray]


class _Pace:
    """Lets one step be started while another runs, but of long ones only one run at a time.

    A signal has to wait for every step that was started. What starting one costs is nothing beside
    a long step, and hides behind the one that runs where they are short.
    """

    def __init__(self) -> None:
        """Starts the clock."""
        self._long, self._since = True, time.monotonic()

    def wait(self, newest: list[dict[str, jax.Array]]) -> None:
        """Waits for the step before the newest, and for the newest if steps are long.

        Args:
            newest: scalars of the newest steps, in order, one at least.
        """
        jax.block_until_ready(newest if self._long else newest[:-1])
        now = time.monotonic()
        self._long, self._since = now - self._since > _LONG_STEP_SECONDS, now


def _is_score(name: str) -> bool:
    return name.startswith("validation/")


def _note(means: dict[str, float]) -> str:
    """The losses and validation scores as a short text."""
    shown = {
        name.split("/")[1]: value
        for name, value in means.items()
        if name.startswith("loss/") or _is_score(name)
    }
    return ", ".join(f"{name} {value:.3g}" for name, value in shown.items())
