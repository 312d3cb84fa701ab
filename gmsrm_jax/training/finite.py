"""Losses, gradients and scores that are NaN or infinite: leaving updates out, and ending a run.

Scalars are replicated, so that every process finds the same in the same step.
"""

import io
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmsrm_jax.checkpoints.store import Checkpoints
from gmsrm_jax.data.training_data import TrainingData
from gmsrm_jax.methods.base import Batch, Program, Scalars, Stage, TrainState
from gmsrm_jax.runtime.errors import NotFinite
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.processes import gather_rows

_GUARD = "guard/"
SKIPPED = f"{_GUARD}skipped"


def guarded(name: str, program: Program) -> Program:
    """A program that leaves its update out, and only counts the step, if a scalar is not finite.

    It tells so by the scalar "guard/NAME", 1 for an update that was left out.
    """

    def run(state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        moved, scalars = program(state, batch)
        finite = jnp.stack([jnp.all(jnp.isfinite(value)) for value in scalars.values()]).all()
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        skipped = 1.0 - finite.astype(jnp.float32)
        return kept.replace(step=moved.step), {**scalars, f"{_GUARD}{name}": skipped}

    return run


class FiniteCheck:
    """Ends a stage at a scalar that is not finite, unless it is one of k updates to be left out.

    The steps in a row with an update that was left out are counted from the start of the process.
    """

    def __init__(
        self,
        stage: Stage,
        data: TrainingData,
        checkpoints: Checkpoints,
        folder: pathlib.Path,
        max_skipped: int,
    ):
        """Starts with no update left out.

        Args:
            stage: which stage.
            data: where a step's batch can be had again.
            checkpoints: the stage's, for the last good step.
            folder: the stage's, where the batch is written.
            max_skipped: config.max_skipped_updates; above 0 the programs must be `guarded`.
        """
        self._stage, self._data, self._checkpoints = stage, data, checkpoints
        self._folder, self._allowed, self._row = folder, max_skipped, 0

    def means(self, steps: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
        """Means of the scalars of some steps, after a check of every one of them.

        Values that are not finite, of updates left out, are not in the means; "guard/skipped" is
        the number of these updates, where updates can be left out.

        Raises:
            NotFinite: a value is not finite; names it, its step, the last good checkpoint and the
                file that the step's batch was written to. Nothing is saved between a step and its
                check, so every checkpoint is good.
        """
        values: dict[str, list[float]] = {}
        skipped = 0
        for step, scalars in steps:
            left_out = sum(int(v) for name, v in scalars.items() if name.startswith(_GUARD))
            skipped += left_out
            self._row = self._row + 1 if left_out else 0
            if self._row > self._allowed or not left_out:
                self._check(step, scalars, f"after {self._row - 1} left out, " if left_out else "")
            for name, value in scalars.items():
                if math.isfinite(value) and not name.startswith(_GUARD):
                    values.setdefault(name, []).append(value)
        means = {name: sum(given) / len(given) for name, given in values.items()}
        return means | ({SKIPPED: float(skipped)} if self._allowed else {})

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Checks the scores of a validation.

        Raises:
            NotFinite: one is not finite; as `means`, but without a batch.
        """
        for name, value in scores.items():
            if not math.isfinite(value):
                raise NotFinite(self._message(name, value, step, ""))

    def _check(self, step: int, scalars: dict[str, float], note: str) -> None:
        for name, value in scalars.items():
            if not math.isfinite(value):
                saved = self._save_batch(step, scalars)
                raise NotFinite(self._message(name, value, step, f"{note}{saved}, "))

    def _save_batch(self, step: int, scalars: dict[str, float]) -> str:
        """Makes the batch of a step once more, from all processes, and writes it in process 0.

        Returns where it is, or why it is not, in words.
        """
        stage = self._stage
        rows = self._data.batches(
            stage.batch_size, step - 1, stage.stream, jax.process_index(), jax.process_count()
        )
        batch = gather_rows(next(iter(rows)))
        path = self._folder / f"nonfinite_{step}.npz"
        if jax.process_index() == 0:
            arrays: dict[str, Any] = {f"scalar:{name}": value for name, value in scalars.items()}
            file = io.BytesIO()
            np.savez_compressed(file, allow_pickle=False, **batch, step=step, **arrays)
            try:
                write_atomically(path, file.getvalue())
            except OSError as error:
                return f"its batch could not be written ({error.strerror})"
        return f"its batch is in {path}"

    def _message(self, name: str, value: float, step: int, note: str) -> str:
        good = self._checkpoints.latest()
        where = f"step {good} in {self._checkpoints.folder}" if good is not None else "none yet"
        return (
            f"{self._stage.name}: {name} is {value} at step {step}; {note}last good checkpoint: "
            f"{where}. Check the data or lower the learning rate, in another --workdir"
        )
