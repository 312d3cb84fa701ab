"""Gradient accumulation: a step that goes through its batch in micro-batches, one after the other.

Of N examples and k micro-batches, micro-batch b has the examples b, b + k, b + 2k, …, so that every
device goes through its own examples and nothing is sent. Everything random is drawn for the whole
batch before it is taken apart; gradients and scalars are means over the micro-batches, and weights
and averages move once a step. The same step without accumulation therefore gives the same, up to
rounding, wherever an example does not know the others. Where it does, it knows those of its
micro-batch:

- minibatch deviations of stage 1's discriminator are taken within groups of the micro-batch;
- style mixing takes foreign codes from the micro-batch, and the reconstruction loss beside it is a
  mean over the micro-batch's unmixed examples, before the mean over micro-batches;
- path lengths are compared with the running mean as moved by the micro-batch's own mean length; the
  mean that is kept is that of the whole batch;
- the adversarial weight of a second phase is found from the micro-batch's gradients;
- batch norms take the moments of the micro-batch, and running ones move by the mean of these.

ADA's r_t is the mean sign over the whole batch. Power iterations of stage 2's discriminator do not
look at examples: the vectors after a step are one iteration on, whatever k.
"""

from collections.abc import Callable
from typing import Any

import jax
from optax import microbatching


def in_micro_batches(
    function: Callable[[Any], tuple[Any, Any]], parts: Any, count: int
) -> tuple[Any, Any]:
    """Applies a function to each micro-batch and puts the results together.

    Args:
        function: maps a part of the batch to two trees: values whose mean over the micro-batches is
            wanted, and arrays with a row for each example.
        parts: arrays whose first axis is that of the examples.
        count: number of micro-batches, a divisor of the number of examples.

    Returns:
        The means, and the rows in the order of the examples.
    """
    if count == 1:
        return function(parts)
    size = jax.tree.leaves(parts)[0].shape[0] // count
    kinds = (microbatching.AccumulationType.MEAN, microbatching.AccumulationType.CONCAT)
    return microbatching.microbatch(function, 0, size, kinds)(parts)
