"""Steps of optimizers: of networks alone, and of networks that play against discriminators."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import optax

from gmsrm_jax.nn import losses
from gmsrm_jax.nn.accumulation import in_micro_batches
from gmsrm_jax.nn.optimizers import average_weights

# {network: {"params": …, "batch_stats": …}}
Variables = dict[str, dict[str, Any]]
Scalars = dict[str, jax.Array]
Form = Literal["logistic", "hinge", "wasserstein", "relativistic"]
_DISCRIMINATOR_LOSSES: dict[Form, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "logistic": losses.logistic_discriminator_loss,
    "hinge": losses.hinge_discriminator_loss,
    "wasserstein": losses.wasserstein_discriminator_loss,
    "relativistic": losses.relativistic_discriminator_loss,
}


class Played(NamedTuple):
    """What a loss gives beside its value.

    Attributes:
        scalars: for the log.
        statistics: renewed ones by network, such as {"edge": {"batch_stats": …}}.
        rows: arrays with a row for each example.
    """

    scalars: Scalars
    statistics: Variables
    rows: Any


Loss = Callable[[Variables, Any], tuple[jax.Array, Played]]


def gradient_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    variables: Variables,
    states: dict[str, Any],
    parts: Any,
    accumulation: int,
) -> tuple[Variables, dict[str, Any], Played]:
    """One step of some networks down the mean gradient over the micro-batches.

    Args:
        loss: maps variables and a part of the batch to a scalar and what `Played` says.
        optimizer: one for all networks, each with a state of its own.
        variables: of the networks that move.
        states: of the optimizer, by network.
        parts: arrays whose first axis is that of the examples.
        accumulation: micro-batches.

    Returns:
        Variables, states, and means of scalars (with every "gradient/NETWORK", the norm), means of
        statistics, and the rows of all examples.
    """
    params = {name: tree["params"] for name, tree in variables.items()}

    def of_weights(params: dict[str, Any], part: Any) -> tuple[jax.Array, Played]:
        given = {name: {**tree, "params": params[name]} for name, tree in variables.items()}
        return loss(given, part)

    def differentiated(part: Any) -> tuple[Any, Any]:
        gradient, (scalars, statistics, rows) = jax.grad(of_weights, has_aux=True)(params, part)
        return (gradient, scalars, statistics), rows

    (gradients, scalars, statistics), rows = in_micro_batches(differentiated, parts, accumulation)
    moved, renewed = {}, {}
    for name, gradient in gradients.items():
        updates, renewed[name] = optimizer.update(gradient, states[name], params[name])
        weights = {"params": optax.apply_updates(params[name], updates)}
        moved[name] = {**variables[name], **statistics.get(name, {}), **weights}
    norms = {f"gradient/{name}": optax.global_norm(tree) for name, tree in gradients.items()}
    return moved, renewed, Played({**scalars, **norms}, statistics, rows)


@dataclasses.dataclass(frozen=True)
class Adversary:
    """A discriminator with its losses and its optimizer.

    Attributes:
        name: of the network.
        module: module(*shown, update_stats=…) gives logits of any shape.
        form: "logistic" (non-saturating), "hinge", "wasserstein" or "relativistic" (averages, least
            squares), of both sides' losses. The discriminator's is the sum of its two means, but
            for the last one half of it, as its paper has it; to Adam that makes no difference.
        optimizer: with a rate and betas of its own.
        penalty_weight: of the gradient penalty at "between", what is shown there beside "real" and
            "fake"; its first array is that of the pictures.
    """

    name: str
    module: nn.Module
    form: Form
    optimizer: optax.GradientTransformation
    penalty_weight: float = 0.0

    def judge(
        self, variables: dict[str, Any], shown: tuple[jax.Array, ...], method: str | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """What the discriminator says, and its statistics, one power iteration on.

        Args:
            variables: of the discriminator.
            shown: pictures, and what else it sees.
            method: of the module, if not the one that gives logits.
        """
        judged: Any = self.module.apply(
            variables, *shown, update_stats=True, mutable=["batch_stats"], method=method
        )
        return judged

    def generator_loss(self, fake: jax.Array, real: jax.Array | None = None) -> jax.Array:
        """What the generator makes small.

        Args:
            fake: logits of what it made.
            real: logits of real pictures, which the relativistic form alone looks at.

        Raises:
            ValueError: the form is relativistic and there are none.
        """
        if self.form == "logistic":
            return losses.logistic_generator_loss(fake)
        if self.form == "relativistic":
            if real is None:
                raise ValueError("the relativistic loss compares with logits of real pictures")
            return losses.relativistic_generator_loss(real, fake)
        return losses.adversarial_generator_loss(fake)

    def fooling_loss(self, variables: Variables, shown: Any) -> jax.Array:
        """`generator_loss` from {"real": …, "fake": …} as `judge` takes them.

        Args:
            variables: by network.
            shown: of which the relativistic form alone looks at what is real.
        """
        fake, _ = self.judge(variables[self.name], shown["fake"])
        if self.form != "relativistic":
            return self.generator_loss(fake)
        return self.generator_loss(fake, self.judge(variables[self.name], shown["real"])[0])

    def discriminator_loss(self, real: jax.Array, fake: jax.Array) -> jax.Array:
        """What the discriminator makes small, from logits, without the penalty."""
        return _DISCRIMINATOR_LOSSES[self.form](real, fake)

    def loss(self, variables: Variables, shown: Any) -> tuple[jax.Array, Played]:
        """The discriminator's loss, from {"real": …, "fake": …} as `judge` takes them."""
        fake, _ = self.judge(variables[self.name], shown["fake"])
        # The renewed vectors do not depend on the examples, so their mean is each of them.
        real, renewed = self.judge(variables[self.name], shown["real"])
        value = self.discriminator_loss(real, fake)
        scalars = {
            f"logits/{self.name}_real": real.mean(),
            f"logits/{self.name}_fake": fake.mean(),
        }
        if self.penalty_weight:
            images, *others = shown["between"]
            penalty = losses.gradient_penalty(
                lambda x: self.judge(variables[self.name], (x, *others))[0], images
            )
            value += self.penalty_weight * penalty
            scalars[f"loss/{self.name}_penalty"] = penalty
        scalars[f"loss/{self.name}"] = value
        return value, Played(scalars, {self.name: renewed}, ())


def adversarial_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    adversaries: Sequence[Adversary],
    variables: Variables,
    states: dict[str, Any],
    parts: Any,
    accumulation: int,
) -> tuple[Variables, dict[str, Any], Scalars]:
    """One step of a generator and its discriminators, on the same examples.

    All gradients are taken at the weights before the step, and the discriminators' statistics move
    on by one power iteration.

    Args:
        loss: the generator's; may ask `Adversary.judge` with the variables before the step. Its
            rows are {discriminator: {"real": …, "fake": …}}, tuples of arrays that it is shown.
        optimizer: the generator's.
        adversaries: the discriminators.
        variables: of the discriminators and of the generator's networks, which are all others.
        states: of the optimizers, by network.
        parts: arrays whose first axis is that of the examples.
        accumulation: micro-batches.

    Returns:
        Variables, states of the optimizers, scalars of all sides.
    """
    judges = {adversary.name for adversary in adversaries}
    making = {name: tree for name, tree in variables.items() if name not in judges}
    moved, renewed, played = gradient_step(loss, optimizer, making, states, parts, accumulation)
    scalars = dict(played.scalars)
    for adversary in adversaries:
        judged, state, told = gradient_step(
            adversary.loss,
            adversary.optimizer,
            {adversary.name: variables[adversary.name]},
            states,
            played.rows[adversary.name],
            accumulation,
        )
        moved, renewed, scalars = moved | judged, renewed | state, scalars | told.scalars
    return moved, renewed, scalars


def average_variables(
    average: Variables, variables: Variables, decay: jax.Array | float
) -> Variables:
    """`average_weights` of the networks in `average`; statistics are taken as they are."""
    return {
        name: {
            **variables[name],
            "params": average_weights(tree["params"], variables[name]["params"], decay),
        }
        for name, tree in average.items()
    }
