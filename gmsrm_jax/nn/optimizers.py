"""Optimizers, learning rates, and the moving average of weights."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

Schedule = Literal["constant", "half_linear", "cosine"]


def lazy_adam(
    learning_rate: float, betas: tuple[float, float], interval: int
) -> optax.GradientTransformation:
    """Adam for a network whose regulariser runs every `interval` steps with the same state.

    StyleGAN2's correction for c = interval / (interval + 1): rate · c, betas to the power c. An
    interval of 0 means no lazy steps and plain Adam. Gradients that are not finite are not touched
    here: the loop stops at them.

    Args:
        learning_rate: rate before the correction.
        betas: (β1, β2) before the correction.
        interval: steps between two lazy steps, 0 for none.
    """
    c = interval / (interval + 1) if interval else 1.0
    return optax.adam(learning_rate * c, b1=betas[0] ** c, b2=betas[1] ** c, eps=1e-8)


def learning_rate_schedule(kind: Schedule, peak: float, steps: int) -> optax.Schedule:
    """A learning rate as a function of the step.

    Args:
        kind: "constant", "half_linear" (constant, then linear to 0 over the second half), or
            "cosine" (half a cosine from the peak to 0).
        peak: rate at the start.
        steps: length of the training.
    """
    if kind == "half_linear":
        return falling_rate(peak, steps, steps // 2)
    if kind == "cosine":
        return optax.cosine_decay_schedule(peak, max(steps, 1))
    return optax.constant_schedule(peak)


def falling_rate(peak: float, steps: int, constant: int) -> optax.Schedule:
    """A learning rate that is constant for some steps, then falls linearly to 0 at the last."""
    decay = optax.linear_schedule(peak, 0.0, max(steps - constant, 1))
    return optax.join_schedules([optax.constant_schedule(peak), decay], [constant])


def slowed(modules: tuple[str, ...], factor: float) -> optax.GradientTransformation:
    """Multiplies the updates of some modules, as a smaller rate of an Adam before it would.

    Args:
        modules: beginnings of their names.
        factor: of the learning rate; StyleGAN's mapping network has 0.01.
    """

    def update(updates: Any, params: Any) -> Any:
        del params
        return {
            name: jax.tree.map(lambda u: factor * u, tree) if name.startswith(modules) else tree
            for name, tree in updates.items()
        }

    return optax.stateless(update)


def average_weights(average: Any, weights: Any, decay: jax.Array | float) -> Any:
    """Moves an average towards the weights: decay · average + (1 - decay) · weights.

    Without rounding where both are equal, and where the decay is the number 0.
    """
    if isinstance(decay, float | int) and not decay:
        return weights
    return jax.tree.map(lambda a, w: a + (1.0 - decay) * (w - a), average, weights)


def ema_decay(images_seen: jax.Array, batch: int, half_life: float, rampup: float) -> jax.Array:
    """Decay of stage 1's average (StyleGAN2-ADA): 0.5 ^ (batch / half-life).

    Args:
        images_seen: images the generator was trained on so far, a scalar.
        batch: images of one step.
        half_life: in images.
        rampup: the half-life is at most this share of the images seen; 0 for no ramp.
    """
    life = jnp.minimum(half_life, rampup * images_seen) if rampup else half_life
    return 0.5 ** (batch / jnp.maximum(life, 1e-8))
