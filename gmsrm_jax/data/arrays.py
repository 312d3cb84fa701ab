"""Training pictures from an array file and masks from a bank, without TensorFlow.

Starts fast and runs on machines that have no TensorFlow.
"""

import itertools
import os
from collections.abc import Iterator
from typing import Protocol

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gmsrm_jax.data.masks.files import read_packed_masks, unpack_masks
from gmsrm_jax.data.sources import ArrayPictures
from gmsrm_jax.data.splits import Split
from gmsrm_jax.data.training_data import Batch, TrainingData
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import replacing

_VALIDATION_SALT = np.uint32(0xFFFFFFFF)  # salts of training streams start at 0


class ArrayData(TrainingData):
    """Training data from an array file (*.npy) and a mask bank (*.npz)."""

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
        self._bank, size = read_packed_masks(config.masks.bank)
        if size != config.image_size:
            raise UserError(
                f"{config.masks.bank}: masks of {size} px, but config.image_size = "
                f"{config.image_size}; write a bank of that size"
            )
        super().__init__(config, split)
        self.description += f"; {count_of(len(self._bank), 'mask')} in {config.masks.bank}"
        self._array = split.pictures.array
        self._seed = config.seed & 0xFFFFFFFF

    def _validation_masks(self, count: int) -> np.ndarray:
        draws = _draws(self._seed, _VALIDATION_SALT, np.arange(count, dtype=np.uint32))
        return np.stack([self._mask(draw[4:]) for draw in draws])

    def _stream(
        self, batch_size: int, step: int, salt: int, first: int, rows: int
    ) -> Iterator[Batch]:
        orders: dict[int, np.ndarray] = {}
        for start in itertools.count(step * batch_size + first, batch_size):
            examples = np.arange(start, start + rows)
            epochs, positions = np.divmod(examples, self.num_examples)
            orders = {e: orders[e] if e in orders else self._order(salt, e) for e in set(epochs)}
            rank = [orders[e][p] for e, p in zip(epochs, positions, strict=True)]
            draws = _draws(self._seed, np.uint32(salt), examples.astype(np.uint32))
            pictures = self._array[self._split.training[rank]]
            yield {
                "image": np.stack(list(map(self._image, pictures, draws))),
                "mask": np.stack([self._mask(draw[4:]) for draw in draws]),
            }

    def _order(self, salt: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, salt, epoch)).permutation(self.num_examples)

    def _image(self, picture: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """Scales a picture and cuts a square out, in one resampling, uint8 [S, S, 3]."""
        data, size = self._config.data, self._config.image_size
        low, high = (data.shorter_side * size * scale for scale in data.scale)
        sides = np.array(picture.shape[:2], float)
        side = size * sides.min() / (low + draw[0] * (high - low))
        top, left = draw[1:3] * (sides - side)
        # Rounding must not lead out of the picture.
        box = (left, top, min(left + side, sides[1]), min(top + side, sides[0]))
        crop = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC, box)
        return np.asarray(crop)[:, :: -1 if data.flip and draw[3] < 0.5 else 1]

    def _mask(self, draw: np.ndarray) -> np.ndarray:
        """Takes a mask of the bank in one of its eight orientations, uint8 [S, S, 1]."""
        row = min(int(draw[0] * len(self._bank)), len(self._bank) - 1)
        mask = unpack_masks(self._bank[row, None], self._config.image_size)[0, ..., 0]
        mask = mask.T if draw[1] < 0.5 else mask
        mask = mask[::-1] if draw[2] < 0.5 else mask
        return (mask[:, ::-1] if draw[3] < 0.5 else mask)[..., None]


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
    with replacing(path) as temporary:
        # Written row by row, for the array can be larger than the memory.
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


def _draws(seed: int, salt: np.uint32, examples: np.ndarray) -> np.ndarray:
    """Returns the eight U[0, 1) draws of each example, float32 [n, 8].

    They are: scale, crop corner (y, x), mirror; mask, its transposition and its two mirrors.
    """
    try:
        # So that they do not queue behind training steps on an accelerator.
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        device = jax.local_devices()[0]
    with jax.default_device(device):
        return np.asarray(_draw(np.uint32(seed), salt, examples))


@jax.jit
def _draw(seed: jax.Array, salt: jax.Array, examples: jax.Array) -> jax.Array:
    # Named, because under vmap JAX's other generators give a row what its batch decides.
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), salt)
    return jax.vmap(lambda example: jax.random.uniform(jax.random.fold_in(key, example), (8,)))(
        examples
    )
