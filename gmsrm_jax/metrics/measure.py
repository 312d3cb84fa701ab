"""What a measure of pictures is: its definition in words, and one score for each picture.

A measure takes `(prediction, target)`, or `(prediction, target, mask)` if it looks at the hole
alone: arrays [..., H, W, 3] of any dtype with values in 0..255, and a mask [..., H, W, 1], 1 in the
hole. It returns float32 [...], NaN where it is undefined, and can be jitted. It raises ValueError
if shapes differ or are not as above, or a side is below what its windows need.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Measure = Callable[..., jax.Array]


class Definition(NamedTuple):
    """What a measure is: its label, one exact sentence, its unit and which direction is better."""

    label: str
    text: str
    unit: str
    better: str


def define(measure: Callable[..., Any], label: str, unit: str, better: str) -> Definition:
    """The definition of a measure, whose sentence is the second paragraph of its docstring."""
    paragraphs = (inspect.getdoc(measure) or "\n\n").split("\n\n")
    return Definition(label, " ".join(paragraphs[1].split()), unit, better)


def measure(smallest: int = 1) -> Callable[[Callable[..., jax.Array]], Measure]:
    """Makes a measure of pictures from a score of one; see `each_picture`.

    Args:
        smallest: side of the smallest picture that has a score.
    """

    def of_score(score: Callable[..., jax.Array]) -> Measure:
        def scored(
            prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None
        ) -> jax.Array:
            return each_picture(score, prediction, target, mask, smallest=smallest)

        scored.__name__, scored.__doc__ = score.__name__, score.__doc__
        return jax.jit(scored)

    return of_score


def each_picture(
    score: Callable[..., jax.Array],
    prediction: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    smallest: int = 1,
) -> jax.Array:
    """Scores one picture after another.

    The arrays in between are of a single picture's size, which a processor's cache holds: several
    times as fast on a CPU as whole batches. A batch split over devices is gathered on each.

    Args:
        score: from prediction and target, float32 [H, 3 W] with the channels of a pixel side by
            side, and the hole, bool [H, 3 W], if there is a mask, to one number.
        prediction: [..., H, W, 3], any dtype.
        target: [..., H, W, 3], any dtype.
        mask: [..., H, W, 1], above 0.5 in the hole, or None.
        smallest: side of the smallest picture that has a score.

    Returns:
        [...]

    Raises:
        ValueError: the shapes differ, are not as above, or H or W is below `smallest`.
    """
    arrays = [jnp.asarray(prediction), jnp.asarray(target)]
    shape = check_pair(arrays, smallest)
    if mask is not None:
        mask = jnp.asarray(mask)
        if mask.shape != (*shape[:-1], 1):
            raise ValueError(f"the mask of {shape} must be [..., H, W, 1], got {mask.shape}")
        arrays.append(jnp.broadcast_to(mask > 0.5, shape))
    rows = [array.reshape(math.prod(shape[:-3]), shape[-3], 3 * shape[-2]) for array in arrays]

    def score_row(row: list[jax.Array]) -> jax.Array:
        return score(row[0].astype(jnp.float32), row[1].astype(jnp.float32), *row[2:])

    return jax.lax.map(score_row, rows).reshape(shape[:-3])


def check_pair(pair: Sequence[jax.Array], smallest: int) -> tuple[int, ...]:
    """The common shape [..., H, W, 3] of prediction and target.

    Raises:
        ValueError: the shapes differ, are not as above, or H or W is below `smallest`.
    """
    shape = pair[0].shape
    if shape != pair[1].shape:
        raise ValueError(f"prediction {shape} and target {pair[1].shape} differ in shape")
    if len(shape) < 3 or shape[-1] != 3 or min(shape[-3:-1]) < smallest:
        raise ValueError(
            f"images must be [..., H, W, 3] with H and W at least {smallest}, got {shape}"
        )
    return shape
