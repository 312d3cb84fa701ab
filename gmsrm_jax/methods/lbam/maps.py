"""The learned activations of LBAM: from a mask's responses to factors and to the next mask."""

from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pydantic
from flax import traverse_util

# The four numbers of a map, and where training keeps them.
RANGES = {"peak": (1.01, 6.0), "centre": (0.1, 3.0), "left": (0.5, 2.0), "right": (0.5, 2.0)}
EXPONENT = 0.8  # α
_SMALLEST = 1e-6  # of what is raised to α; the derivative there is 13


def _in_ranges(value: tuple[float, ...]) -> tuple[float, ...]:
    for number, (name, (least, most)) in zip(value, RANGES.items(), strict=True):
        if not least <= number <= most:
            raise ValueError(f"{name} {number:g} is outside its range; use {least:g} to {most:g}")
    return value


# The numbers that a map begins with, in the order of RANGES.
MapStart = Annotated[tuple[float, float, float, float], pydantic.AfterValidator(_in_ranges)]


class AttentionMap(nn.Module):
    """The asymmetric Gaussian g_A of Sec. 3.2, with four numbers for all channels.

        g_A(r) = a · exp(-γ_l · (r - μ)²)              r < μ
               = 1 + (a - 1) · exp(-γ_r · (r - μ)²)    r ≥ μ

    Attributes:
        start: a, μ, γ_l, γ_r as they begin.
    """

    start: tuple[float, float, float, float]

    @nn.compact
    def __call__(self, r: jax.Array) -> jax.Array:
        """Maps responses [N, H, W, C] to factors of the same shape and format."""
        a, centre, left, right = (
            self.param(name, nn.initializers.constant(value), ())
            for name, value in zip(RANGES, self.start, strict=True)
        )
        y = r.astype(jnp.float32)
        squared = jnp.square(y - centre)
        below = a * jnp.exp(-left * squared)
        above = 1.0 + (a - 1.0) * jnp.exp(-right * squared)
        return jnp.where(y < centre, below, above).astype(r.dtype)


def next_mask(r: jax.Array) -> jax.Array:
    """g_M(r) = relu(r)^0.8 of Sec. 3.2, for responses [N, H, W, C], which keep shape and format.

    0 below a millionth, where its slope grows without bound.
    """
    y = r.astype(jnp.float32)
    above = y > _SMALLEST
    # The inner choice keeps the slope of what is not taken finite.
    return jnp.where(above, jnp.where(above, y, 1.0) ** EXPONENT, 0.0).astype(r.dtype)


def keep_in_ranges() -> optax.GradientTransformation:
    """Shortens updates of the maps' numbers so that they end in their ranges.

    A projection behind the step: numbers that are clipped on the way forward get no gradient.
    """

    def update(updates: Any, params: Any) -> Any:
        flat, before = (traverse_util.flatten_dict(tree) for tree in (updates, params))
        for path in flat:
            if path[-1] in RANGES:
                moved = before[path] + flat[path]
                flat[path] = jnp.clip(moved, *RANGES[path[-1]]) - before[path]
        return traverse_util.unflatten_dict(flat)

    return optax.stateless(update)
