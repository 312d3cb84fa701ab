"""What the stages share in which a generator plays against discriminators, in one program."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Batch, Context, Method, Scalars, TrainState, Variables
from gmsrm_jax.methods.stage import FillingStage
from gmsrm_jax.nn.adversarial import Adversary, Played, adversarial_step, average_variables
from gmsrm_jax.nn.spectral import drawn
from gmsrm_jax.runtime.pixels import to_signed


class AdversarialStage(FillingStage):
    """Moves all networks at each step; a method adds `init`, `salt` and the generator's loss."""

    def __init__(
        self,
        name: str,
        method: Method,
        config: ConfigDict,
        context: Context,
        total_steps: int,
        fields: ConfigDict,
        optimizer: optax.GradientTransformation,
        adversaries: tuple[Adversary, ...],
    ):
        """Prepares the stage.

        Args:
            name: of the stage.
            method: how its averages fill.
            config: the run's config.
            context: what the data say.
            total_steps: length.
            fields: the method's section, with save_every, validate_every and ema.
            optimizer: of the generator.
            adversaries: the discriminators.
        """
        super().__init__(
            name, method, config, context, total_steps, fields.save_every, fields.validate_every
        )
        self.config, self.fields = config, fields
        self.optimizer, self.adversaries = optimizer, adversaries
        self.programs = {"main": self._main_step}

    def _begin(
        self,
        name: str,
        variables: dict[str, Any],
        key: jax.Array,
        shown: Mapping[str, tuple[tuple[int, int], ...]],
    ) -> TrainState:
        """The first state of a generator and of discriminators that are drawn here.

        Args:
            name: of the generator.
            variables: of the generator.
            key: random key.
            shown: by discriminator, side and channels of everything it sees.
        """
        judges = {}
        keys = jax.random.split(key, len(self.adversaries))
        for adversary, judge_key in zip(self.adversaries, keys, strict=True):
            seen = [
                jnp.zeros((1, side, side, channels)) for side, channels in shown[adversary.name]
            ]
            judges[adversary.name] = drawn(adversary.module, judge_key, *seen)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables={name: variables, **judges},
            average={name: jax.tree.map(jnp.copy, variables)},
            optimizer={
                name: self.optimizer.init(variables["params"]),
                **{
                    adversary.name: adversary.optimizer.init(judges[adversary.name]["params"])
                    for adversary in self.adversaries
                },
            },
            kept={},
            extra={},
        )

    def _parts(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        """What the loss needs beside picture and mask, a row for each example.

        Args:
            state: before the step.
            image: float32 [N, S, S, 3] in [-1, 1].
            mask: float32 [N, S, S, 1], 1 in the hole.
        """
        raise NotImplementedError

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """The generator's loss, see `adversarial_step`.

        Args:
            state: before the step.
            batch: of which only the constants are looked at.
            variables: of the generator.
            part: rows of the batch.
        """
        raise NotImplementedError

    def _main_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        image, mask = to_signed(batch["image"]), batch["mask"].astype(jnp.float32)
        parts = {"image": image, "mask": mask, **self._parts(state, image, mask)}
        variables, optimizer, scalars = adversarial_step(
            lambda variables, part: self._loss(state, batch, variables, part),
            self.optimizer,
            self.adversaries,
            state.variables,
            state.optimizer,
            parts,
            self.accumulation,
        )
        average = average_variables(state.average, variables, self.fields.ema)
        moved = state.replace(
            step=state.step + 1, variables=variables, optimizer=optimizer, average=average
        )
        return moved, scalars
