"""What stages that train filling networks share: validation, pictures, filling."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax import metrics
from gmsrm_jax.methods.base import Context, Method, Program, TrainState, Variables
from gmsrm_jax.methods.filler import Filler
from gmsrm_jax.metrics.extra import sharpness
from gmsrm_jax.runtime.image_grid import holed, mask_picture


def steps_of(length_kimg: float, batch_size: int) -> int:
    """Steps that show about so many thousand pictures, at least one."""
    return max(round(length_kimg * 1000 / batch_size), 1)


class FillingStage:
    """A stage whose averaged variables fill holes; a method adds `init`, `programs` and `salt`.

    See `base.Stage` for its attributes.
    """

    salt: int
    stream = 2  # that of GM-SRM's stage 2, for every method

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
        self.config, self._method = config, method
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
        composite = np.where(mask > 0, raw, truth)
        shown = [holed(truth, mask), mask_picture(mask), raw, composite, truth]
        rows = np.stack(shown, axis=1)
        return {"fillings": (rows.reshape(-1, *truth.shape[1:]), 5)}

    def variables_of(self, state: TrainState) -> Variables:
        """What fills after this stage."""
        return self._method.finish(self.config, state.average, state.kept)

    def _key(self, state: TrainState) -> jax.Array:
        """A random key of the next step, which no other stage of the run has."""
        key = jax.random.fold_in(jax.random.key(self.seed), self.salt)
        return jax.random.fold_in(key, state.step)

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
