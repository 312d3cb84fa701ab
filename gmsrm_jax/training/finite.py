"""Losses, gradients and scores that are NaN or infinite: leaving updates out, and ending a run.

Scalars are replicated, so that every process finds the same in the same step.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from gmsrm_jax.checkpoints.store import Checkpoints
from gmsrm_jax.methods.base import Batch, Program, Scalars, TrainState
from gmsrm_jax.runtime.errors import NotFinite

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

    def __init__(self, stage: str, checkpoints: Checkpoints, max_skipped: int):
        """Starts with no update left out.

        Args:
            stage: name of the stage.
            checkpoints: the stage's, for the last good step.
            max_skipped: config.max_skipped_updates; above 0 the programs must be `guarded`.
        """
        self._stage, self._checkpoints = stage, checkpoints
        self._allowed, self._row = max_skipped, 0

    def means(self, steps: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
        """Means of the scalars of some steps, after a check of every one of them.

        Values that are not finite, of updates left out, are not in the means; "guard/skipped" is
        the number of these updates, where updates can be left out.

        Raises:
            NotFinite: a value is not finite; names it, its step and the last good checkpoint.
                Nothing is saved between a step and its check, so every checkpoint is good.
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
            NotFinite: one is not finite; as `means`.
        """
        self._check(step, scores, "")

    def _check(self, step: int, scalars: Mapping[str, float], note: str) -> None:
        for name, value in scalars.items():
            if not math.isfinite(value):
                raise NotFinite(self._message(name, value, step, note))

    def _message(self, name: str, value: float, step: int, note: str) -> str:
        good = self._checkpoints.latest()
        where = f"step {good} in {self._checkpoints.folder}" if good is not None else "none yet"
        return (
            f"{self._stage}: {name} is {value} at step {step}; {note}last good checkpoint: "
            f"{where}. Check the data or lower the learning rate, in another --workdir"
        )
