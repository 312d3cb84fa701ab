"""What stages that train filling networks share: validation, pictures, the step of a pair."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from gmsrm_jax import metrics
from gmsrm_jax.methods.base import (
    Batch,
    Context,
    Method,
    Program,
    Scalars,
    TrainState,
    Variables,
)
from gmsrm_jax.methods.filler import Filler
from gmsrm_jax.metrics.extra import sharpness
from gmsrm_jax.nn.adversarial import (
    Adversary,
    Played,
    adversarial_step,
    average_variables,
    gradient_step,
)


def steps_of(length_kimg: float, batch_size: int) -> int:
    """Steps that show about so many thousand pictures, at least one."""
    return max(round(length_kimg * 1000 / batch_size), 1)


class FillingStage:
    """A stage whose averaged variables fill holes; a method adds `init`, `programs` and `salt`.

    See `base.Stage` for its attributes.
    """

    salt: int

    def __init__(
        self,
        name: str,
        method: Method,
        config: ConfigDict,
        context: Context,
        total_steps: int,
        save_every: int,
        validate_every: int,
    ):
        """Prepares the stage.

        Args:
            name: of the stage.
            method: how `average` and `kept` of its state fill.
            config: the run's config.
            context: what the data say.
            total_steps: length.
            save_every: steps between two checkpoints.
            validate_every: steps between two validations.
        """
        self.name, self.total_steps = name, total_steps
        self.save_every, self.validate_every = save_every, validate_every
        self.seed, self.batch_size = config.seed, config.batch_size
        self.accumulation, self.dtype = config.accumulation, config.compute_dtype
        self.batches: dict[str, int] = {"batch_size": config.batch_size}
        self.constants: dict[str, Any] = {}
        self.programs: dict[str, Program] = {}
        self.validation = context.validation
        self._method, self._config = method, config
        self._filler = Filler(method, config, {})

    def due(self, step: int) -> tuple[str, ...]:
        """Every step is the same."""
        del step
        return ("main",)

    def validate(self, state: TrainState) -> dict[str, float]:
        """PSNR of composites, L1 and sharpness in the hole, on the pictures kept aside."""
        truth, mask = self.validation["image"].astype(np.float32), self.validation["mask"]
        filled = self.fill(state, self.validation["image"], mask)
        filled = np.where(mask > 0, filled, self.validation["image"]).astype(np.float32)
        hole = (np.abs(filled - truth) * mask).sum() / max(3.0 * mask.sum(), 1.0)
        sharp = np.asarray(sharpness(filled, truth, mask))
        defined = sharp[np.isfinite(sharp)]  # not for a picture that is even in its hole
        return {
            "validation/psnr": float(np.mean(np.asarray(metrics.psnr(filled, truth)))),
            "validation/hole_l1": float(hole),
            **({"validation/sharpness": float(defined.mean())} if len(defined) else {}),
        }

    def keep(self, state: TrainState, scores: Mapping[str, float]) -> TrainState:
        """The last state fills, whatever its scores."""
        del scores
        return state

    def panels(self, state: TrainState) -> dict[str, tuple[np.ndarray, int]]:
        """One row a picture: input, mask, raw output, composite, truth."""
        count = min(4, len(self.validation["image"]))
        truth, mask = self.validation["image"][:count], self.validation["mask"][:count]
        raw = self.fill(state, truth, mask)
        held = np.where(mask > 0, np.uint8(127), truth)
        shown = np.repeat(mask * np.uint8(255), 3, axis=-1)
        composite = np.where(mask > 0, raw, truth)
        rows = np.stack([held, shown, raw, composite, truth], axis=1)
        return {"fillings": (rows.reshape(-1, *truth.shape[1:]), 5)}

    def variables_of(self, state: TrainState) -> Variables:
        """What fills after this stage."""
        return self._method.finish(self._config, state.average, state.kept)

    def fill(self, state: TrainState, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Outputs of the averaged networks for uint8 images and masks, batch by batch, uint8."""
        count, size = len(images), self.batch_size
        rows = np.arange(-(-count // size) * size) % count
        variables = self.variables_of(state)
        seeds = np.full(size, self.seed, np.uint32)
        outputs = [
            self._filler(images[part], masks[part], seeds, part, variables=variables)[0]
            for part in rows.reshape(-1, size)
        ]
        return np.concatenate(outputs)[:count]


class PairStage(FillingStage):
    """Networks that fill and a discriminator, moved together at each step.

    A method adds `init`, `salt`, `_parts` and `_loss`, and sets the attributes in `__init__`.

    Attributes:
        optimizer: of the networks that fill.
        adversary: the discriminator.
        ema: decay of the average; 0 for the last weights.
        played: False leaves the discriminator as it is.
    """

    optimizer: optax.GradientTransformation
    adversary: Adversary
    ema: float
    played = True

    def begin(self, variables: Variables, judge: dict[str, Any], **items: Any) -> TrainState:
        """The first state.

        Args:
            variables: of the networks that are trained.
            judge: variables of the discriminator.
            items: "kept" and "extra" of the state, if there are any.
        """
        name = self.adversary.name
        optimizer = {key: self.optimizer.init(tree["params"]) for key, tree in variables.items()}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables={**variables, name: judge},
            average=jax.tree.map(jnp.copy, variables),
            optimizer={**optimizer, name: self.adversary.optimizer.init(judge["params"])},
            **{"kept": {}, "extra": {}, **items},
        )

    def _parts(self, state: TrainState, batch: Batch) -> dict[str, Any]:
        """What the loss needs, a row for each example: the batch's, and what is drawn."""
        raise NotImplementedError

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The loss of the networks that fill, see `adversarial_step`.

        Args:
            state: before the step.
            batch: of which only the constants are looked at.
            variables: of the networks that fill.
            part: rows of `_parts`.
        """
        raise NotImplementedError

    def _main_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """One step of both sides, on the same fillings."""

        def loss(variables: Variables, part: Batch) -> tuple[jax.Array, Played]:
            value, played = self._loss(state, batch, variables, part)
            return value, played._replace(rows={self.adversary.name: played.rows})

        before, states, parts = state.variables, state.optimizer, self._parts(state, batch)
        if self.played:
            moved, optimizer, scalars = adversarial_step(
                loss, self.optimizer, (self.adversary,), before, states, parts, self.accumulation
            )
        else:
            making = {name: tree for name, tree in before.items() if name != self.adversary.name}
            moved, optimizer, told = gradient_step(
                loss, self.optimizer, making, states, parts, self.accumulation
            )
            scalars = told.scalars
        variables = {**before, **moved}
        return state.replace(
            step=state.step + 1,
            variables=variables,
            average=average_variables(state.average, variables, self.ema),
            optimizer={**states, **optimizer},
        ), scalars
