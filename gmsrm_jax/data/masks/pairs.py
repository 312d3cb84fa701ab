"""Masks that belong to pictures: a folder in which each mask is named after its picture."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.assets import resolve_path
from gmsrm_jax.data.bad_pictures import named, printable
from gmsrm_jax.data.decoding import resize_for_test
from gmsrm_jax.data.listing import picture_names
from gmsrm_jax.data.masks.files import read_hole
from gmsrm_jax.data.masks.list_file import PAIRED, MaskList, build_mask_list
from gmsrm_jax.data.masks.names import masks_of, stem_of
from gmsrm_jax.data.sources import Pictures
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError


def paired_masks(config: ConfigDict, pictures: Pictures, count: int) -> MaskList | None:
    """The masks of a folder, each for the picture that it is named after, see `names`.

    They go through the test rule with their pictures: resized by the nearest pixel, and cropped.

    Args:
        config: uses image_size, data, and evaluation.masks, .invert_masks and .seed.
        pictures: the test set.
        count: pictures that are evaluated, from the first.

    Returns:
        One mask for each picture; None if config.evaluation.masks is no folder, or one of masks
        for any picture.

    Raises:
        UserError: half of the names or more fit and others do not; or a mask cannot be read, has
            other proportions than its picture, or no hole in what is evaluated of it.
    """
    folder = resolve_path(config.evaluation.masks)
    if not folder.is_dir():
        return None
    names = [pictures.name(index) for index in range(len(pictures))]
    mask_of = _by_picture(names, picture_names(folder), folder)
    if mask_of is None:
        return None
    size, rule, invert = config.image_size, config.data, config.evaluation.invert_masks
    empty: list[str] = []

    def masks() -> Iterator[list[np.ndarray]]:
        for index, name in enumerate(names[:count]):
            path = folder / mask_of[name]
            whole = read_hole(path, invert).astype(np.uint8)
            height, width = pictures.image(index).shape[:2]
            rows, columns = whole.shape
            if columns * height != rows * width:
                raise UserError(
                    printable(
                        f"{path}: {columns} x {rows} px, but its picture {name} has "
                        f"{width} x {height} px; give masks as large as their pictures"
                    )
                )
            mask = resize_for_test(whole, size, rule.shorter_side, rule.test_resize, nearest=True)
            if not mask.any():
                empty.append(mask_of[name])
            yield [mask[..., None]]

    masked = count_of(len(names), "mask")
    source = f"folder {folder.resolve().name}, {masked} named after the pictures"
    if invert:
        source += ", inverted"
    seed = config.evaluation.seed
    found = build_mask_list(names[:count], size, seed, source, masks(), bins=(PAIRED,))
    if empty:
        raise UserError(
            printable(
                f"mask folder {folder}: {named(empty)} have no hole in the {size} px that are "
                "evaluated of their pictures; white is the hole (--invert: black); what "
                "data.test_resize = 'shorter_side' crops off does not count, 'direct' keeps it"
            )
        )
    return found


def _by_picture(names: Sequence[str], masks: Sequence[str], folder: Path) -> dict[str, str] | None:
    """The mask of each picture; None if the masks are named otherwise."""
    files, pictures = ({stem_of(name): name for name in each} for each in (masks, names))
    mask_of = masks_of(pictures, files)
    if 2 * len(mask_of) < max(len(names), len(masks)):
        return None
    used = set(mask_of.values())
    faults = {
        "no mask for": [name for stem, name in pictures.items() if stem not in mask_of],
        "no picture for": [mask for stem, mask in files.items() if stem not in used],
        "two files of one name but for the suffix:": [
            *(name for name in names if pictures[stem_of(name)] != name),
            *(mask for mask in masks if files[stem_of(mask)] != mask),
        ],
    }
    said = "; ".join(f"{what} {named(found)}" for what, found in faults.items() if found)
    if said:
        raise UserError(
            f"mask folder {printable(str(folder))}: {len(mask_of)} of its masks are named after "
            f"pictures, but there is {said}; complete or rename them, or write a mask list with "
            "`gmsrm masks assign`, which deals masks to any pictures"
        )
    return {pictures[stem]: files[mask] for stem, mask in mask_of.items()}
