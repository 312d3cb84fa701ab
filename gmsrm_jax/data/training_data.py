"""What every source of training data promises."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from gmsrm_jax.data.bad_pictures import BadPictures
from gmsrm_jax.runtime.errors import UserError

Batch = dict[str, np.ndarray]


class TrainingData(Protocol):
    """An endless, index-addressed stream of training examples and a fixed validation set.

    Attributes:
        num_examples: training pictures, validation excluded.
        description: one line, what was found where.
        fingerprint: number and hashed names of the pictures; another one is another training.
    """

    num_examples: int
    description: str
    fingerprint: str

    @property
    def bad(self) -> BadPictures | None:
        """Pictures left out; more can be found while batches are read. None for an array file."""

    def batches(
        self,
        batch_size: int,
        start_step: int,
        salt: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """Yields this process's rows of batch start_step, start_step + 1, ... without end.

        Example e = step * batch_size + row is a pure function of (config.seed, salt, e); its
        picture is element e % num_examples of a permutation drawn for epoch e // num_examples. So
        a resumed run, and any number of processes, sees the same examples.

        Args:
            batch_size: examples of all processes together.
            start_step: step of the first batch.
            salt: tells streams of the same seed apart, such as those of the two stages; from 0.
            process_index: which contiguous slice of each batch to yield.
            process_count: number of slices.

        Returns:
            Iterator of {"image": uint8 [n, S, S, 3], "mask": uint8 [n, S, S, 1]} with
            n = batch_size / process_count and 1 in the hole.

        Raises:
            UserError: batch_size is no multiple of process_count; or, from the iterator, a
                picture cannot be read.
        """

    def validation(self) -> Batch:
        """Returns the pictures held out, by the test rule, with masks fixed by config.seed.

        Returns:
            {"image": uint8 [k, S, S, 3], "mask": uint8 [k, S, S, 1]}.
        """


def rows_per_process(batch_size: int, process_index: int, process_count: int) -> int:
    """Returns the number of rows of a batch that each process gets.

    Raises:
        UserError: batch_size is no multiple of process_count.
    """
    if batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} is not a multiple of the {process_count} processes; "
            "change this stage's batch_size"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} is not below {process_count}")
    return batch_size // process_count
