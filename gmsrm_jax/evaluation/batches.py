"""The examples of an evaluation, batch by batch, and what a method makes of them."""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from gmsrm_jax.data.masks.list_file import MaskList
from gmsrm_jax.data.sources import Pictures
from gmsrm_jax.runtime.errors import UserError

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(image, mask, example_index) → raw output.

image: float32 [N, S, S, 3] in [-1, 1], holes zeroed. mask: float32 [N, S, S, 1], 1 in the hole.
example_index: int32 [N], picture · (masks per picture) + mask, plus s · (examples in all) for the
s-th further sample of an example; the only source of randomness that a method should use. Output:
float32 [N, S, S, 3] in [-1, 1].
"""

IMAGE_KINDS = {
    "composite": "output rounded to uint8 in the hole, the given picture elsewhere",
    "composite_unrounded": "output clipped to 0..255 but not rounded in the hole, the given "
    "picture elsewhere",
    "raw": "output clipped to 0..255 but not rounded, known pixels included",
}


def pictures_sha256(pictures: Pictures, count: int) -> str:
    """SHA-256 (hex) over the shapes and pixels of the first `count` pictures, as decoded."""
    digest = hashlib.sha256()
    for index in range(count):
        picture = pictures.image(index)
        digest.update(f"{picture.shape}\n".encode())
        digest.update(picture.tobytes())
    return digest.hexdigest()


def load_batches(
    pictures: Pictures,
    mask_list: MaskList,
    batch_size: int,
    resize: Callable[[np.ndarray], np.ndarray],
    start: int,
    stop: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Yields the examples from `start` to below `stop`.

    Yields:
        image uint8 [N, S, S, 3], mask uint8 [N, S, S, 1], example_index int32 [N] and the number of
        examples that count: the last batch is filled up with copies of its last example, so that
        all have one shape.
    """
    loaded, picture = -1, np.empty(0, np.uint8)
    for first in range(start, stop, batch_size):
        count = min(batch_size, stop - first)
        index = np.minimum(np.arange(first, first + batch_size), stop - 1).astype(np.int32)
        images = []
        for example in index:
            wanted = int(example) // len(mask_list.bins)
            if wanted != loaded:
                loaded, picture = wanted, resize(pictures.image(wanted))
            images.append(picture)
        masks = np.stack([mask_list.mask(int(example)) for example in index])
        yield np.stack(images), masks, index, count


def fill_holes(
    method: str, fill: Fill, image: np.ndarray, mask: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Returns the output of a method for uint8 pictures and masks, float32 [N, S, S, 3], checked.

    Raises:
        UserError: the output is not finite.
        ValueError: it has another shape than the pictures.
    """
    network_image = (image.astype(np.float32) / np.float32(127.5) - np.float32(1.0)) * (1 - mask)
    raw = np.asarray(fill(network_image.astype(np.float32), mask.astype(np.float32), index))
    if raw.shape != image.shape:
        raise ValueError(f"method {method!r} returned {raw.shape}, expected {image.shape}")
    if not np.isfinite(raw).all():
        raise UserError(
            f"method {method!r}: its output holds values that are not finite; the weights are "
            "damaged or diverged, take an earlier checkpoint"
        )
    return raw


def composite(
    image: np.ndarray, mask: np.ndarray, raw: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts a method's output into the holes.

    Args:
        image: uint8 [..., 3], 0..255.
        mask: uint8 [..., 1], 1 in the hole.
        raw: float32 [..., 3] in [-1, 1]; values outside are clipped.

    Returns:
        The composite with the output rounded, uint8; the composite with the output as it is,
        float32 in 0..255; the output alone, float32 in 0..255.
    """
    pixels = (np.clip(raw.astype(np.float32), -1.0, 1.0) + np.float32(1.0)) * np.float32(127.5)
    hole = mask.astype(bool)
    rounded = np.where(hole, np.rint(pixels).astype(np.uint8), image)
    unrounded = np.where(hole, pixels, image.astype(np.float32))
    return rounded, unrounded, pixels
