"""Training pictures from files, through tf.data.

The stream is addressed by example index: nothing is buffered that a resumed run would miss, and
memory does not grow with the data set. See `loading.TrainingData` for what it promises.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import ExifTags, Image

from gmsrm_jax.data.images import FolderPictures, check_sides
from gmsrm_jax.data.loading import Batch, Split, rows_per_process
from gmsrm_jax.data.masks import SAMPLERS
from gmsrm_jax.data.tensorflow_cpu import tf
from gmsrm_jax.errors import UserError
from gmsrm_jax.holes import UNREADABLE

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
_PREFETCH = 2  # batches
_VALIDATION_SALT = -1  # salts of training streams start at 0


class TfData:
    """Training data from a folder of pictures, with masks drawn as it goes.

    Attributes:
        num_examples: training pictures, validation excluded.
        description: one line, what was found where.
        fingerprint: see `loading.TrainingData`.
    """

    def __init__(self, config: ConfigDict, split: Split) -> None:
        """Reads the headers of the pictures.

        Raises:
            UserError: an array file, a picture that is too small or of a format TensorFlow does
                not read, an unknown mask sampler, or no threads.
        """
        if not isinstance(split.pictures, FolderPictures):
            raise UserError(
                f"config.data.train = {config.data.train!r} is an array file; "
                f"set --config.data.pipeline=arrays, or name a folder"
            )
        if config.masks.train not in SAMPLERS:
            known = ", ".join(SAMPLERS)
            raise UserError(f"config.masks.train = {config.masks.train!r}; use one of: {known}")
        if config.data.num_threads < 1:
            raise UserError(f"config.data.num_threads = {config.data.num_threads}; use 1 or more")
        self.num_examples = len(split.training)
        self.description = split.description
        self.fingerprint = split.fingerprint
        self._config = config
        self._split = split
        self._sampler = SAMPLERS[config.masks.train]
        self._paths = [split.pictures.paths[index] for index in split.training]
        self._orientations = [_orientation(path) for path in self._paths]

    def batches(
        self,
        batch_size: int,
        start_step: int,
        salt: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """Yields batches without end, see `loading.TrainingData.batches`."""
        rows = rows_per_process(batch_size, process_index, process_count)
        paths = tf.constant([str(path) for path in self._paths])
        orientations = tf.constant(self._orientations, tf.int32)
        base = tf.constant([self._config.seed, salt], tf.int64)
        order_seed, example_seed = tf.unstack(tf.random.split(base, 2))

        def indices(counter: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """Returns the example and the picture of this process's example `counter`."""
            example = (counter // rows) * batch_size + process_index * rows + counter % rows
            picture = tf.random.experimental.index_shuffle(
                example % self.num_examples,
                tf.random.fold_in(order_seed, example // self.num_examples),
                tf.constant(self.num_examples - 1, tf.int64),
            )
            return example, picture

        def load(counter: tf.Tensor) -> dict[str, tf.Tensor]:
            example, picture = indices(counter)
            seeds = tf.unstack(tf.random.split(tf.random.fold_in(example_seed, example), 2))
            image = upright(decode(tf.io.read_file(paths[picture])), orientations[picture])
            return {"image": self._augment(image, seeds[0]), "mask": self._mask(seeds[1])}

        threads = self._config.data.num_threads
        dataset = tf.data.Dataset.counter(start_step * rows, dtype=tf.int64)
        dataset = dataset.map(load, num_parallel_calls=threads, deterministic=True)
        dataset = dataset.batch(rows, drop_remainder=True).prefetch(_PREFETCH)
        options = tf.data.Options()
        options.autotune.enabled = False
        options.deterministic = True
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = 1
        iterator = dataset.with_options(options).as_numpy_iterator()

        def checked() -> Iterator[Batch]:
            for step in itertools.count(start_step):
                try:
                    batch = next(iterator)
                except tf.errors.OpError:
                    for counter in range(step * rows, (step + 1) * rows):
                        _, picture = indices(tf.constant(counter, tf.int64))
                        _check_decodes(self._paths[int(picture)])
                    raise
                yield batch

        return checked()

    def validation(self) -> Batch:
        """Returns the held-out pictures, see `loading.TrainingData.validation`."""
        size = self._config.image_size
        base = tf.constant([self._config.seed, _VALIDATION_SALT], tf.int64)
        draw = tf.function(lambda index: self._mask(tf.random.fold_in(base, index)))
        masks = np.empty((len(self._split.validation), size, size, 1), np.uint8)
        for row in range(len(masks)):
            masks[row] = draw(tf.constant(row, tf.int64)).numpy()
        return {"image": self._split.validation_images(self._config), "mask": masks}

    def _augment(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        size, data = self._config.image_size, self._config.data
        low, high = data.scale
        seeds = tf.unstack(tf.random.split(seed, 3))
        scale = tf.random.stateless_uniform([], seeds[0], low, high)
        corner = tf.random.stateless_uniform([2], seeds[1])
        crop = scaled_crop(image, data.shorter_side * size * scale, corner, size)
        if not data.flip:
            return crop
        mirror = tf.random.stateless_uniform([], seeds[2]) < 0.5
        return tf.where(mirror, tf.reverse(crop, [1]), crop)

    def _mask(self, seed: tf.Tensor) -> tf.Tensor:
        # Samplers take int32 seeds: two draws over all int32 values.
        pair = tf.random.stateless_uniform([2], seed, minval=None, maxval=None, dtype=tf.int32)
        size = self._config.image_size
        return tf.ensure_shape(tf.cast(self._sampler(pair, size), tf.uint8), [size, size, 1])


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG or BMP file to RGB, uint8 [H, W, 3], the same values as Pillow's."""

    def bmp() -> tf.Tensor:
        image = tf.io.decode_bmp(encoded, channels=0)
        grey = tf.shape(image)[2] == 1
        return tf.cond(grey, lambda: tf.repeat(image, 3, axis=2), lambda: image[:, :, :3])

    def jpeg_or_png() -> tf.Tensor:
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    image = tf.cond(tf.strings.substr(encoded, 0, 2) == b"BM", bmp, jpeg_or_png)
    return tf.ensure_shape(image, [None, None, 3])


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Applies an EXIF orientation (1 to 8) to an image [H, W, 3]."""

    def turned() -> tf.Tensor:
        x = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
        x = tf.cond(mirrored, lambda: tf.reverse(x, [1]), lambda: x)
        upended = tf.reduce_any(orientation == [3, 4, 7, 8])
        return tf.cond(upended, lambda: tf.reverse(x, [0]), lambda: x)

    return tf.cond(orientation > 1, turned, lambda: image)


def scaled_crop(image: tf.Tensor, shorter: tf.Tensor, corner: tf.Tensor, size: int) -> tf.Tensor:
    """Scales a picture, antialiased bicubic, and cuts a square out, in one resampling.

    Args:
        image: uint8 [H, W, 3].
        shorter: shorter side of the scaled picture in pixels, at least `size`; need not be whole.
        corner: [2] (y, x) in [0, 1]: where the square lies between top left and bottom right.
        size: side S of the square in pixels.

    Returns:
        uint8 [S, S, 3].
    """
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    factor = shorter / tf.reduce_min(sides)
    offset = corner * (factor * sides - size)
    # Only the pixels that the square's kernels (radius 2 in the coarser of the two grids) reach.
    reach = 2.0 * tf.maximum(1.0, 1.0 / factor) + 1.0
    low = tf.maximum(tf.floor(offset / factor - reach), 0.0)
    high = tf.minimum(tf.math.ceil((offset + size) / factor + reach), sides)
    begin, end = tf.cast(low, tf.int32), tf.cast(high, tf.int32)
    crop = tf.raw_ops.ScaleAndTranslate(
        images=image[None, begin[0] : end[0], begin[1] : end[1]],
        size=[size, size],
        scale=tf.stack([factor, factor]),
        translation=low * factor - offset,
        kernel_type="keyscubic",
        antialias=True,
    )
    return tf.saturate_cast(tf.round(crop[0]), tf.uint8)


def _orientation(path: Path) -> int:
    """Returns the EXIF orientation in a picture's header, 1 where there is none.

    A header that cannot be read counts as upright; decoding the picture then gives the error.

    Raises:
        UserError: the picture is too small, or TensorFlow does not read its format.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(
            f"{path}: training reads {' '.join(_SUFFIXES)} only; convert it to PNG or JPEG"
        )
    try:
        with Image.open(path) as picture:
            check_sides(path, picture.height, picture.width)
            # TensorFlow takes the palette indices of such a file for grey values.
            if picture.format == "BMP" and picture.mode == "P":
                raise UserError(f"{path}: a BMP with a palette; convert it to PNG or JPEG")
            orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except UNREADABLE:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _check_decodes(path: Path) -> None:
    """Raises UserError if TensorFlow cannot read or decode a picture."""
    try:
        decode(tf.io.read_file(str(path)))
    except tf.errors.OpError as error:
        raise UserError(
            f"{path}: TensorFlow cannot decode this training picture; "
            f"save it again as PNG or JPEG, or remove it"
        ) from error
