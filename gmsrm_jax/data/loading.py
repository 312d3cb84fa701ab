"""Opens the training data that a config names.

Two sources keep the same promises: `pipeline.TfData` reads picture files with tf.data and draws
masks as it goes; `arrays.ArrayData` reads an array file and a mask bank without TensorFlow.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.data.images import Pictures, open_pictures, resize_for_test
from gmsrm_jax.errors import UserError

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


@dataclass(frozen=True)
class Split:
    """Pictures divided into training and validation.

    Attributes:
        pictures: all of them.
        training: indices of the training pictures, ascending.
        validation: indices of those held out, ascending.
    """

    pictures: Pictures
    training: np.ndarray
    validation: np.ndarray

    @property
    def fingerprint(self) -> str:
        """Number of pictures and SHA-256 of their names, in order: other ones, another training."""
        digest = hashlib.sha256()
        for index in range(len(self.pictures)):
            digest.update(self.pictures.name(index).encode() + b"\n")
        return f"{len(self.pictures)}, names {digest.hexdigest()}"

    @property
    def description(self) -> str:
        """One line: what was found where."""
        return (
            f"{self.pictures.location}: {len(self.pictures)} pictures, {len(self.training)} for "
            f"training, {len(self.validation)} held out for validation"
        )

    def validation_images(self, config: ConfigDict) -> np.ndarray:
        """Returns the held-out pictures by the test rule, uint8 [k, S, S, 3]."""
        size, data = config.image_size, config.data
        images = np.empty((len(self.validation), size, size, 3), np.uint8)
        for row, index in enumerate(self.validation):
            picture = self.pictures.image(int(index))
            images[row] = resize_for_test(picture, size, data.shorter_side, data.test_resize)
        return images


def open_data(config: ConfigDict) -> TrainingData:
    """Opens config.data.train with config.data.pipeline.

    Raises:
        UserError: the pictures, the masks or a field cannot be used; names it and the cure.
    """
    if config.data.pipeline == "tfdata":
        from gmsrm_jax.data.pipeline import TfData

        return TfData(config, split_pictures(config))
    if config.data.pipeline == "arrays":
        from gmsrm_jax.data.arrays import ArrayData

        return ArrayData(config, split_pictures(config))
    raise UserError(f"config.data.pipeline = {config.data.pipeline!r}; use one of: tfdata, arrays")


def split_pictures(config: ConfigDict) -> Split:
    """Opens config.data.train and holds config.data.validation_count pictures out.

    Which ones depends on the SHA-256 of each name alone, so that adding or removing pictures moves
    few others, and every run of a set holds out the same ones.

    Raises:
        UserError: fewer than validation_count + 1 pictures, or a scale below the crop.
    """
    low, high = config.data.scale
    if not 1.0 <= config.data.shorter_side * low <= config.data.shorter_side * high:
        raise UserError(
            f"config.data.scale = {tuple(config.data.scale)} with data.shorter_side = "
            f"{config.data.shorter_side}: give (low, high) with low <= high and "
            f"shorter_side * low >= 1, so that a crop fits into the picture"
        )
    pictures = open_pictures(config.data.train)
    count = config.data.validation_count
    if not 0 <= count < len(pictures):
        raise UserError(
            f"{pictures.location}: {len(pictures)} pictures, of which config.data.validation_count "
            f"= {count} are held out; at least one must be left for training: add pictures or "
            f"change --config.data.validation_count"
        )
    training, validation = _hold_out([pictures.name(i) for i in range(len(pictures))], count)
    return Split(pictures, training, validation)


def rows_per_process(batch_size: int, process_index: int, process_count: int) -> int:
    """Returns the number of rows of a batch that each process gets.

    Raises:
        UserError: batch_size is no multiple of process_count.
    """
    if batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} is not a multiple of the {process_count} processes; "
            f"change --config.batch_size or --config.memory.batch_size"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} is not below {process_count}")
    return batch_size // process_count


def _hold_out(names: Sequence[str], count: int) -> tuple[np.ndarray, np.ndarray]:
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    return np.sort(np.array(order[count:], np.int64)), np.sort(np.array(order[:count], np.int64))
