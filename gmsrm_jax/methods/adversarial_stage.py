"""The stage of a filling network that learns beside a discriminator."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Batch, Context, Method, Scalars, TrainState, Variables
from gmsrm_jax.methods.stage import FillingStage
from gmsrm_jax.nn.adversarial import Adversary, Played, adversarial_step, average_variables
from gmsrm_jax.runtime.pixels import to_signed


class AdversarialStage(FillingStage):
    """Moves what fills and its discriminator together at each step, by the program "main".

    A method adds `init`, `_loss`, and `salt`.
    """

    def __init__(
        self,
        name: str,
        method: Method,
        config: ConfigDict,
        context: Context,
        fields: ConfigDict,
        total_steps: int,
        optimizer: optax.GradientTransformation,
        adversary: Adversary | None,
    ):
        """Prepares the stage; see `FillingStage`.

        Args:
            name: of the stage.
            method: how its averages fill.
            config: the run's config.
            context: what the data say.
            fields: the method's own section, with `ema`, `save_every` and `validate_every`.
            total_steps: length.
            optimizer: of what fills.
            adversary: None to learn without.
        """
        super().__init__(
            name, method, config, context, total_steps, fields.save_every, fields.validate_every
        )
        self.fields, self.optimizer, self.adversary = fields, optimizer, adversary
        self.programs = {"main": self._main_step}

    def _begin(self, making: Variables, judging: Variables) -> TrainState:
        """The first state: what fills by network, and the discriminator by its name, if any."""
        optimizer = {name: self.optimizer.init(tree["params"]) for name, tree in making.items()}
        if self.adversary is not None:
            judge = judging[self.adversary.name]["params"]
            optimizer[self.adversary.name] = self.adversary.optimizer.init(judge)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables={**making, **judging},
            average=jax.tree.map(jnp.copy, making),
            optimizer=optimizer,
            kept={},
            extra={},
        )

    def _parts(self, step: jax.Array, image: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
        """What the loss needs beside picture and mask, a row for each example."""
        del step, image, mask
        return {}

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The loss of what fills, see `adversarial_step`.

        Args:
            state: before the step.
            batch: of which only the constants are looked at.
            variables: of what fills.
            part: rows of the batch: "image" in [-1, 1], "mask", and `_parts`.
        """
        raise NotImplementedError

    def _projected(self, variables: Variables) -> Variables:
        """The variables after a step, weights brought back to their ranges."""
        return variables

    def _main_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        image, mask = to_signed(batch["image"]), batch["mask"].astype(jnp.float32)
        parts: dict[str, Any] = {"image": image, "mask": mask}
        variables, optimizer, scalars = adversarial_step(
            lambda variables, part: self._loss(state, batch, variables, part),
            self.optimizer,
            self.adversary,
            state.variables,
            state.optimizer,
            parts | self._parts(state.step, image, mask),
            self.accumulation,
        )
        variables = self._projected(variables)
        moved = state.replace(
            step=state.step + 1,
            variables=variables,
            optimizer=optimizer,
            average=average_variables(state.average, variables, self.fields.ema),
        )
        return moved, scalars
