"""What the stages share in which one program moves a generator, and discriminators against it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Batch, Context, Method, Scalars, TrainState, Variables
from gmsrm_jax.methods.stage import FillingStage
from gmsrm_jax.nn.adversarial import Adversary, Played, adversarial_step, average_variables
from gmsrm_jax.nn.spectral import drawn
from gmsrm_jax.runtime.pixels import to_signed


class AdversarialStage(FillingStage):
    """Moves all networks at each step; a method adds `init`, `salt` and the generator's loss.

    Without a discriminator it is the descent of one loss.
    """

    def __init__(
        self,
        name: str,
        method: Method,
        config: ConfigDict,
        context: Context,
        total_steps: int,
        fields: ConfigDict,
        optimizer: optax.GradientTransformation,
        adversaries: tuple[Adversary, ...] = (),
    ):
        """Prepares the stage.

        Args:
            name: of the stage.
            method: how its averages fill.
            config: the run's config.
            context: what the data say.
            total_steps: length.
            fields: the method's section, with save_every, validate_every, ema and a weight for
                each term of the loss.
            optimizer: of the generator.
            adversaries: the discriminators.
        """
        super().__init__(
            name, method, config, context, total_steps, fields.save_every, fields.validate_every
        )
        self.fields, self.optimizer, self.adversaries = fields, optimizer, adversaries
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
            **items,
        )

    def _begin_drawn(
        self,
        variables: Variables,
        key: jax.Array,
        shown: Mapping[str, tuple[tuple[int, int], ...]],
    ) -> TrainState:
        """The first state, with discriminators that are drawn here.

        Args:
            variables: of the networks that are trained.
            key: random key.
            shown: by discriminator, side and channels of everything it sees.
        """
        judges = {}
        keys = jax.random.split(key, len(self.adversaries))
        for adversary, own_key in zip(self.adversaries, keys, strict=True):
            seen = [
                jnp.zeros((1, side, side, channels)) for side, channels in shown[adversary.name]
            ]
            judges[adversary.name] = drawn(adversary.module, own_key, *seen)
        return self.begin(variables, judges)

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

    def _played(
        self,
        terms: Mapping[str, jax.Array],
        rows: Any = (),
        statistics: Variables | None = None,
        told: Mapping[str, ArrayLike] | None = None,
    ) -> tuple[jax.Array, Played]:
        """The weighted sum L = Σ w · L_term, w the field TERM_weight, with all of it for the log.

        Args:
            terms: scalars by name.
            rows: what the discriminators are shown, see `adversarial_step`.
            statistics: renewed ones by network, if there are any.
            told: scalars that are logged beside them.
        """
        total = jnp.zeros(())
        for name, term in terms.items():
            total += self.fields[f"{name}_weight"] * term
        scalars = {f"loss/{name}": term for name, term in {**terms, "total": total}.items()}
        more = {name: jnp.asarray(value, jnp.float32) for name, value in (told or {}).items()}
        return total, Played(scalars | more, statistics or {}, rows)

    def _main_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """One step of all sides, on the same fillings."""
        return self._moved(state, batch, self._loss, self.optimizer)

    def _moved(
        self,
        state: TrainState,
        batch: Batch,
        loss: Callable[[TrainState, Batch, Variables, Batch], tuple[jax.Array, Played]],
        optimizer: optax.GradientTransformation,
    ) -> tuple[TrainState, Scalars]:
        """The state a step on, by a loss as `_loss` and an optimizer of the generator."""
        variables, states, scalars = adversarial_step(
            functools.partial(loss, state, batch),
            optimizer,
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
            optimizer=states,
        ), scalars
