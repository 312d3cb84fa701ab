"""Training pictures from files, through tf.data.

The stream is addressed by example index: nothing is buffered that a resumed run would miss, and
memory does not grow with the data set. See `training_data.TrainingData` for what it promises.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.data.bad_pictures import BadPictures
from gmsrm_jax.data.crops import View, decode_crop
from gmsrm_jax.data.decoding import UnreadablePicture, decode_image
from gmsrm_jax.data.masks import sampler
from gmsrm_jax.data.sources import EncodedPictures
from gmsrm_jax.data.splits import Split
from gmsrm_jax.data.tensorflow_cpu import tf
from gmsrm_jax.data.training_data import Batch, TrainingData
from gmsrm_jax.runtime.errors import UserError

_PREFETCH = 2  # batches
_VALIDATION_SALT = -1  # salts of training streams start at 0
_Pick = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class TfData(TrainingData):
    """Training data from pictures as encoded files, with masks drawn as it goes.

    A picture that cannot be decoded is found when its turn comes. Its examples then show the next
    picture that can, in the order of the set, so that a batch remains a function of seed, step and
    files: whether a run met the bad picture before makes no difference.
    """

    bad: BadPictures

    def __init__(self, config: ConfigDict, split: Split) -> None:
        """Takes the training pictures of a split.

        Raises:
            UserError: an array file, or unknown mask samplers.
        """
        if not isinstance(split.pictures, EncodedPictures):
            raise UserError(
                f"config.data.train = {config.data.train!r} is an array file; "
                f"set --config.data.pipeline=arrays, or name a folder"
            )
        super().__init__(config, split)
        self._pictures = split.pictures
        self._sampler = sampler(config.masks.train)
        # The picture that is shown for each training picture: itself, or the next good one.
        self._shown = np.arange(self.num_examples)
        self._headers = tf.constant(split.pictures.headers[split.training])
        files = split.pictures.files
        self._files = None if files is None else tf.constant([files[i] for i in split.training])

    def _validation_masks(self, count: int) -> np.ndarray:
        base = tf.constant([self._config.seed, _VALIDATION_SALT], tf.int64)
        draw = tf.function(lambda index: self._mask(tf.random.fold_in(base, index)))
        return np.stack([draw(tf.constant(row, tf.int64)).numpy() for row in range(count)])

    def _stream(
        self, batch_size: int, step: int, salt: int, first: int, rows: int
    ) -> Iterator[Batch]:
        """Starts tf.data anew when bad pictures are met."""
        # The three streams of random numbers: order of pictures, views, masks.
        base = tf.constant([self._config.seed, salt], tf.int64)
        order, *keys = tf.unstack(tf.random.split(base, 3)[:, 0])

        def pick(counter: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """Returns the example and the picture of this process's example `counter`."""
            example = (counter // rows) * batch_size + first + counter % rows
            picture = tf.random.experimental.index_shuffle(
                example % self.num_examples,
                tf.stack([order, example // self.num_examples]),
                tf.constant(self.num_examples - 1, tf.int64),
            )
            return example, picture

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int64)] * 2)
        def load(example: tf.Tensor, picture: tf.Tensor) -> dict[str, tf.Tensor]:
            seeds = [tf.stack([key, example]) for key in keys]
            return {"image": self._image(picture, seeds[0]), "mask": self._mask(seeds[1])}

        while True:
            shown = self._shown
            try:
                for batch in self._dataset(pick, load, rows, step).as_numpy_iterator():
                    yield batch
                    step += 1
            except tf.errors.OpError:
                for counter in range(step * rows, (step + 1) * rows):
                    example, picture = pick(tf.constant(counter, tf.int64))
                    self._leave_out_if_bad(int(picture), functools.partial(load, example))
                if self._shown is shown:  # the error is none of a picture
                    raise

    def _dataset(
        self, pick: _Pick, load: Callable[..., dict[str, tf.Tensor]], rows: int, step: int
    ) -> tf.data.Dataset:
        threads, shown = self._config.data.num_threads, tf.constant(self._shown)

        def example(counter: tf.Tensor) -> dict[str, tf.Tensor]:
            number, picture = pick(counter)
            return load(number, tf.gather(shown, picture))

        dataset = tf.data.Dataset.range(step * rows, tf.int64.max)
        dataset = dataset.map(example, num_parallel_calls=threads, deterministic=True)
        dataset = dataset.batch(rows, drop_remainder=True).prefetch(_PREFETCH)
        options = tf.data.Options()
        options.autotune.enabled = False
        options.deterministic = True
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = 1
        return dataset.with_options(options)

    def _image(self, picture: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Reads a training picture and makes a random crop of it, uint8 [S, S, 3]."""
        size, data = self._config.image_size, self._config.data
        if self._files is None:
            encoded = tf.numpy_function(self._encoded, [picture], tf.string, stateful=False)
            encoded = tf.ensure_shape(encoded, [])
        else:
            encoded = tf.io.read_file(tf.gather(self._files, picture))
        header = tf.gather(self._headers, picture)
        draws = tf.random.stateless_uniform([4], seed)
        low, high = (data.shorter_side * size * scale for scale in data.scale)
        mirror = draws[3] < 0.5 if data.flip else tf.constant(False)
        view = View(low + draws[0] * (high - low), draws[1:3], mirror)
        return decode_crop(encoded, header, view, size, self._pictures.max_pixels)

    def _mask(self, seed: tf.Tensor) -> tf.Tensor:
        # Samplers take int32 seeds: two draws over all int32 values.
        pair = tf.random.stateless_uniform([2], seed, minval=None, maxval=None, dtype=tf.int32)
        size = self._config.image_size
        return tf.ensure_shape(tf.cast(self._sampler(pair, size), tf.uint8), [size, size, 1])

    def _encoded(self, picture: np.int64) -> bytes:
        """Returns a training picture's file."""
        return self._pictures.encoded(int(self._split.training[picture]))

    def _leave_out_if_bad(self, picture: int, load: Callable[[tf.Tensor], object]) -> None:
        """Tries what is shown for a training picture, and the next ones until one is good.

        Raises:
            UserError: a file cannot be read any more, or no picture is good.
        """
        while True:
            shown = int(self._shown[picture])
            name = self._pictures.name(int(self._split.training[shown]))
            try:
                encoded = self._encoded(np.int64(shown))
            except UnreadablePicture as error:
                raise UserError(
                    f"{self._pictures.location}: {name} was there when training started, but "
                    f"{error.reason}; bring it back and run the same command again"
                ) from error
            try:
                load(tf.constant(shown, tf.int64))
                return
            except (tf.errors.InvalidArgumentError, tf.errors.UnknownError):
                reason = "damaged (TensorFlow does not decode it)"
            try:
                decode_image(encoded, self._pictures.max_pixels)
            except UnreadablePicture as error:
                reason = error.reason
            self.bad.add(name, reason)
            substitute = self._shown[(shown + 1) % self.num_examples]
            if substitute == shown:
                raise UserError(f"{self._pictures.location}: no training picture can be decoded")
            self._shown = np.where(self._shown == shown, substitute, self._shown)
