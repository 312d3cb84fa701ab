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

    def begin(self, variables: Variables, judges: Variables, **items: Any) -> TrainState:
        """The first state.

        Args:
            variables: of the networks that are trained.
            judges: of the discriminators.
            items: "kept" and "extra" of the state, if there are any.
        """
        optimizer = {name: self.optimizer.init(tree["params"]) for name, tree in variables.items()}
        for adversary in self.adversaries:
            optimizer[adversary.name] = adversary.optimizer.init(judges[adversary.name]["params"])
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables={**variables, **judges},
            average=jax.tree.map(jnp.copy, variables),
            optimizer=optimizer,
            **{"kept": {}, "extra": {}, **items},
        )

    def judges(self, key: jax.Array, shown: Mapping[str, tuple[Any, ...]]) -> Variables:
        """Draws the discriminators.

        Args:
            key: random key.
            shown: by discriminator, what it is shown of one example.
        """
        keys = jax.random.split(key, len(self.adversaries))
        return {
            adversary.name: drawn(adversary.module, judge_key, *shown[adversary.name])
            for adversary, judge_key in zip(self.adversaries, keys, strict=True)
        }

    def _begin(
        self,
        name: str,
        variables: dict[str, Any],
        key: jax.Array,
        shown: Mapping[str, tuple[tuple[int, int], ...]],
    ) -> TrainState:
        """The first state of one generator and of discriminators that are drawn here.

        Args:
            name: of the generator.
            variables: of the generator.
            key: random key.
            shown: by discriminator, side and channels of everything it sees.
        """
        seen = {
            judge: tuple(jnp.zeros((1, side, side, channels)) for side, channels in each)
            for judge, each in shown.items()
        }
        return self.begin({name: variables}, self.judges(key, seen))

    def _parts(self, state: TrainState, batch: Batch) -> dict[str, Any]:
        """What the loss needs, a row for each example: picture, mask, and what is derived."""
        image, mask = to_signed(batch["image"]), batch["mask"].astype(jnp.float32)
        return {"image": image, "mask": mask, **self._derived(state, image, mask)}

    def _derived(self, state: TrainState, image: jax.Array, mask: jax.Array) -> dict[str, Any]:
        """What the loss needs beside picture and mask, a row for each example; nothing here.

        Args:
            state: before the step.
            image: float32 [N, S, S, 3] in [-1, 1].
            mask: float32 [N, S, S, 1], 1 in the hole.
        """
        del state, image, mask
        return {}

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
        """One step of all sides, on the same fillings."""
        variables, optimizer, scalars = adversarial_step(
            lambda variables, part: self._loss(state, batch, variables, part),
            self.optimizer,
            self.adversaries,
            state.variables,
            state.optimizer,
            self._parts(state, batch),
            self.accumulation,
        )
        return state.replace(
            step=state.step + 1,
            variables=variables,
            average=average_variables(state.average, variables, self.fields.ema),
            optimizer=optimizer,
        ), scalars
