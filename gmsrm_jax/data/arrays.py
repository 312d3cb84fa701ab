"""Training pictures from an array file and masks from a bank, without TensorFlow.

Starts fast and runs on machines that have no TensorFlow. Scaling, cropping and flipping are one
jitted JAX function. See `training_data.TrainingData` for what the stream promises.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.data.bad_pictures import BadPictures
from gmsrm_jax.data.masks.files import read_packed_masks
from gmsrm_jax.data.sources import ArrayPictures
from gmsrm_jax.data.splits import Split
from gmsrm_jax.data.training_data import Batch, rows_per_process
from gmsrm_jax.runtime.errors import UserError

_VALIDATION_SALT = np.uint32(0xFFFFFFFF)  # salts of training streams start at 0


class ArrayData:
    """Training data from an array file (*.npy) and a mask bank (*.npz).

    Attributes:
        num_examples: training pictures, validation excluded.
        description: one line, what was found where.
        fingerprint: see `training_data.TrainingData`.
        bad: None, for an array has no files to leave out.
    """

    bad: BadPictures | None = None

    def __init__(self, config: ConfigDict, split: Split) -> None:
        """Reads the mask bank.

        Raises:
            UserError: the pictures are no array file, or the bank is missing or of another size.
        """
        if not isinstance(split.pictures, ArrayPictures):
            raise UserError(
                f"config.data.train = {config.data.train!r} is no array file (*.npy), which "
                f"data.pipeline = 'arrays' needs; write one with `gmsrm data FOLDER --array`, or "
                f"set --config.data.pipeline=tfdata"
            )
        if not config.masks.bank:
            raise UserError(
                "config.masks.bank is empty, but data.pipeline = 'arrays' takes its masks from a "
                "bank; write one with `gmsrm masks draw` and set --config.masks.bank=FILE.npz"
            )
        bank, size = read_packed_masks(config.masks.bank)
        if size != config.image_size:
            raise UserError(
                f"{config.masks.bank}: masks of {size} px, but config.image_size = "
                f"{config.image_size}; write a bank of that size"
            )
        self.num_examples = len(split.training)
        self.fingerprint = split.fingerprint
        self.description = f"{split.description}; {len(bank)} masks in {config.masks.bank}"
        self._config = config
        self._split = split
        self._array = split.pictures.array
        self._seed = config.seed & 0xFFFFFFFF
        self._device = _host_device()
        with jax.default_device(self._device):
            self._bank = jnp.asarray(bank)
        self._make_batch = jax.jit(self._batch)
        self._make_masks = jax.jit(self._masks)

    def batches(
        self,
        batch_size: int,
        start_step: int,
        salt: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """Yields batches without end, see `training_data.TrainingData.batches`."""
        rows = rows_per_process(batch_size, process_index, process_count)
        starts = itertools.count(start_step * batch_size + process_index * rows, batch_size)
        return self._stream(starts, rows, salt)

    def validation(self) -> Batch:
        """Returns the held-out pictures, see `training_data.TrainingData.validation`."""
        images = self._split.validation_images(self._config)
        with jax.default_device(self._device):
            draws = _draws(self._seed, _VALIDATION_SALT, np.arange(len(images), dtype=np.uint32))
            masks = np.asarray(self._make_masks(draws, self._bank))
        return {"image": images, "mask": masks}

    def _stream(self, starts: Iterator[int], rows: int, salt: int) -> Iterator[Batch]:
        orders: dict[int, np.ndarray] = {}
        for start in starts:
            examples = np.arange(start, start + rows)
            epochs, positions = np.divmod(examples, self.num_examples)
            orders = {e: orders[e] if e in orders else self._order(salt, e) for e in set(epochs)}
            rank = [orders[e][p] for e, p in zip(epochs, positions, strict=True)]
            pictures = self._array[self._split.training[rank]]
            # Set for each batch: a generator must not keep the device set while it waits.
            with jax.default_device(self._device):
                batch = self._make_batch(
                    np.uint32(salt), examples.astype(np.uint32), pictures, self._bank
                )
                batch = jax.device_get(batch)
            yield batch

    def _order(self, salt: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, salt, epoch)).permutation(self.num_examples)

    def _batch(
        self, salt: jax.Array, examples: jax.Array, pictures: jax.Array, bank: jax.Array
    ) -> dict[str, jax.Array]:
        data, size = self._config.data, self._config.image_size
        low, high = (data.shorter_side * size * scale for scale in data.scale)
        draws = _draws(self._seed, salt, examples)

        def image(draw: jax.Array, picture: jax.Array) -> jax.Array:
            crop = scaled_crop(picture, low + draw[0] * (high - low), draw[1:3], size)
            return jnp.where(draw[3] < 0.5, crop[:, ::-1], crop) if data.flip else crop

        return {"image": jax.vmap(image)(draws, pictures), "mask": self._masks(draws, bank)}

    def _masks(self, draws: jax.Array, bank: jax.Array) -> jax.Array:
        size = self._config.image_size

        def mask(draw: jax.Array) -> jax.Array:
            """Takes a mask of the bank in one of its eight orientations, [S, S, 1]."""
            row = jnp.minimum((draw[4] * len(bank)).astype(jnp.int32), len(bank) - 1)
            x = jnp.unpackbits(bank[row])[: size * size].reshape(size, size)
            x = jnp.where(draw[5] < 0.5, x.T, x)
            x = jnp.where(draw[6] < 0.5, x[::-1], x)
            return jnp.where(draw[7] < 0.5, x[:, ::-1], x)[..., None]

        return jax.vmap(mask)(draws)


def scaled_crop(image: jax.Array, shorter: jax.Array, corner: jax.Array, size: int) -> jax.Array:
    """Scales a picture, antialiased bicubic, and cuts a square out, in one resampling.

    Args:
        image: uint8 [H, W, 3].
        shorter: shorter side of the scaled picture in pixels, at least `size`; need not be whole.
        corner: [2] (y, x) in [0, 1]: where the square lies between top left and bottom right.
        size: side S of the square in pixels.

    Returns:
        uint8 [S, S, 3].
    """
    sides = jnp.array(image.shape[:2], jnp.float32)
    factor = shorter / min(image.shape[:2])
    crop = jax.image.scale_and_translate(
        image.astype(jnp.float32),
        (size, size, 3),
        (0, 1),
        jnp.stack([factor, factor]),
        -corner * (factor * sides - size),
        method="cubic",
        antialias=True,
    )
    return jnp.clip(jnp.round(crop), 0.0, 255.0).astype(jnp.uint8)


class Numbered(Protocol):
    """Pictures that are made one at a time, uint8 [H, W, 3] each; an array [N, H, W, 3] is one."""

    def __len__(self) -> int:
        """Returns the number of pictures."""

    def __getitem__(self, index: int, /) -> np.ndarray:
        """Returns picture `index`."""


def write_pictures(path: str | os.PathLike, images: Numbered) -> None:
    """Writes pictures of one size as an array file, uint8 [N, H, W, 3].

    Args:
        path: the file, *.npy.
        images: each is asked for once, in order; the first one twice.

    Raises:
        UserError: there is no picture, or they differ in size.
    """
    if len(images) == 0:
        raise UserError(f"{path}: no pictures to write; give at least one")
    shape = images[0].shape
    # Written row by row, for the array can be larger than the memory.
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        array = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.uint8, shape=(len(images), *shape)
        )
        for index in range(len(images)):
            image = images[index]
            if image.shape != shape:
                raise UserError(
                    f"{path}: picture {index} is {image.shape}, the first is {shape}; "
                    f"bring all pictures to one size"
                )
            array[index] = image
        array.flush()
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _draws(seed: int, salt: np.uint32 | jax.Array, examples: np.ndarray | jax.Array) -> jax.Array:
    """Returns the eight U[0, 1) draws of each example, [n, 8].

    They are: scale, crop corner (y, x), mirror; mask, its transposition and its two mirrors.
    """
    key = jax.random.fold_in(jax.random.key(seed), salt)
    return jax.vmap(lambda example: jax.random.uniform(jax.random.fold_in(key, example), (8,)))(
        examples
    )


def _host_device() -> jax.Device:
    """Returns the CPU, so that batches do not queue behind training steps on an accelerator."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return jax.local_devices()[0]
