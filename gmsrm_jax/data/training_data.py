"""What every source of training data promises."""

import abc
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.data.sources import EncodedPictures
from gmsrm_jax.data.splits import Split
from gmsrm_jax.runtime.errors import UserError

Batch = dict[str, np.ndarray]


class TrainingData(abc.ABC):
    """An endless, index-addressed stream of training examples and a fixed validation set.

    Attributes:
        num_examples: training pictures, validation excluded.
        description: one line, what was found where.
        fingerprint: number and hashed names of the pictures; another one is another training.
        bad: pictures left out; more can be found while batches are read. None for an array file.
    """

    def __init__(self, config: ConfigDict, split: Split) -> None:
        """Takes the training pictures of a split."""
        self.num_examples = len(split.training)
        self.description = split.description
        self.fingerprint = split.fingerprint
        pictures = split.pictures
        self.bad = pictures.bad if isinstance(pictures, EncodedPictures) else None
        self._config, self._split = config, split

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
        if batch_size % process_count:
            raise UserError(
                f"batch size {batch_size} is not a multiple of the {process_count} processes; "
                "change this stage's batch_size"
            )
        rows = batch_size // process_count
        return self._stream(batch_size, start_step, salt, process_index * rows, rows)

    def validation(self) -> Batch:
        """Returns the pictures held out, by the test rule, with masks fixed by config.seed.

        Returns:
            {"image": uint8 [k, S, S, 3], "mask": uint8 [k, S, S, 1]}.
        """
        images = self._split.validation_images(self._config)
        return {"image": images, "mask": self._validation_masks(len(images))}

    @abc.abstractmethod
    def _stream(
        self, batch_size: int, step: int, salt: int, first: int, rows: int
    ) -> Iterator[Batch]:
        """Yields rows `first` to `first` + `rows` - 1 of batch `step` and of those after it."""

    @abc.abstractmethod
    def _validation_masks(self, count: int) -> np.ndarray:
        """Returns the masks of the validation pictures, uint8 [count, S, S, 1]."""
