"""The examples of an evaluation, batch by batch, and what a method makes of them."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from gmsrm_jax.data.decoding import resize_for_test
from gmsrm_jax.data.masks.list_file import MaskList
from gmsrm_jax.data.sources import Pictures
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.pixels import composite, to_bytes, to_levels, to_signed

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


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Test pictures, how they are brought to one size, and the masks that each of them gets.

    Attributes:
        pictures: in any size.
        mask_list: masks of exactly the evaluated pictures, at `image_size`.
        image_size: side S [px].
        shorter_side: shorter side after the resize, in image sizes.
        test_resize: "shorter_side" or "direct", see `resize_for_test`.
        max_images: pictures evaluated, from the first; 0 means all.
    """

    pictures: Pictures
    mask_list: MaskList
    image_size: int
    shorter_side: float
    test_resize: str
    max_images: int = 0

    def check(self) -> None:
        """Checks that the mask list fits.

        Raises:
            UserError: its size or names are not those evaluated.
        """
        self.mask_list.check(evaluated_names(self.pictures, self.max_images), self.image_size)

    def image(self, picture: int) -> np.ndarray:
        """A picture by the test rule, uint8 [S, S, 3]."""
        whole = self.pictures.image(picture)
        return resize_for_test(whole, self.image_size, self.shorter_side, self.test_resize)


def evaluated_names(pictures: Pictures, max_images: int) -> list[str]:
    """Names of the pictures that are evaluated: the first `max_images`, or all if that is 0."""
    count = min(len(pictures), max_images) if max_images else len(pictures)
    return [pictures.name(index) for index in range(count)]


def load_batches(
    test_set: EvaluationSet, batch_size: int, start: int, stop: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Yields the examples from `start` to below `stop`.

    Yields:
        image uint8 [N, S, S, 3], mask uint8 [N, S, S, 1], example_index int32 [N] and the number of
        examples that count: the last batch is filled up with copies of its last example, so that
        all have one shape.
    """
    mask_list = test_set.mask_list
    loaded, picture = -1, np.empty(0, np.uint8)
    for first in range(start, stop, batch_size):
        count = min(batch_size, stop - first)
        index = np.minimum(np.arange(first, first + batch_size), stop - 1).astype(np.int32)
        images = []
        for example in index:
            wanted = int(example) // len(mask_list.bins)
            if wanted != loaded:
                loaded, picture = wanted, test_set.image(wanted)
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
    hole = mask.astype(np.float32)
    raw = np.asarray(fill(to_signed(image) * (1.0 - hole), hole, index))
    if raw.shape != image.shape:
        raise ValueError(f"method {method!r} returned {raw.shape}, expected {image.shape}")
    if not np.isfinite(raw).all():
        raise UserError(
            f"method {method!r}: its output holds values that are not finite; the weights are "
            "damaged or diverged, take an earlier checkpoint"
        )
    return raw


def image_kinds(
    image: np.ndarray, mask: np.ndarray, raw: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images of `IMAGE_KINDS` that a method's output makes.

    Args:
        image: uint8 [..., 3], 0..255.
        mask: uint8 [..., 1], 1 in the hole.
        raw: float32 [..., 3] in [-1, 1]; values outside are clipped.

    Returns:
        The composite with the output rounded, uint8; the composite with the output as it is,
        float32 in 0..255; the output alone, float32 in 0..255.
    """
    pixels = to_levels(raw)
    return (
        composite(image, to_bytes(raw), mask),
        composite(image.astype(np.float32), pixels, mask),
        pixels,
    )
