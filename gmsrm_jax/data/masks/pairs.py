"""Masks that belong to pictures: a folder in which each mask is named like its picture."""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.assets import resolve_path
from gmsrm_jax.data.bad_pictures import printable
from gmsrm_jax.data.decoding import resize_for_test
from gmsrm_jax.data.listing import picture_names
from gmsrm_jax.data.masks.files import read_grey
from gmsrm_jax.data.masks.list_file import PAIRED, MaskList, build_mask_list
from gmsrm_jax.data.sources import Pictures
from gmsrm_jax.runtime.errors import UserError

_NAMED = 3  # files in one message


def paired_masks(config: ConfigDict, pictures: Pictures, count: int) -> MaskList | None:
    """The masks of a folder, each for the picture whose name it has but for the suffix.

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
    of_stem = _by_stem(names, picture_names(folder), folder)
    if of_stem is None:
        return None
    size, rule, invert = config.image_size, config.data, config.evaluation.invert_masks
    empty: list[str] = []

    def masks() -> Iterator[list[np.ndarray]]:
        for index, name in enumerate(names[:count]):
            path = folder / of_stem[_stem(name)]
            grey = read_grey(path)
            height, width = pictures.image(index).shape[:2]
            if grey.width * height != grey.height * width:
                raise UserError(
                    printable(
                        f"{path}: {grey.width} x {grey.height} px, but its picture {name} has "
                        f"{width} x {height} px; give masks as large as their pictures"
                    )
                )
            hole = (np.asarray(grey) >= 128) != invert
            whole = hole.astype(np.uint8)
            mask = resize_for_test(whole, size, rule.shorter_side, rule.test_resize, nearest=True)
            if not mask.any():
                empty.append(of_stem[_stem(name)])
            yield [mask[..., None]]

    source = f"folder {folder.resolve().name}, {len(names)} masks named like the pictures"
    if invert:
        source += ", inverted"
    seed = config.evaluation.seed
    found = build_mask_list(names[:count], size, seed, source, masks(), bins=(PAIRED,))
    if empty:
        raise UserError(
            printable(
                f"mask folder {folder}: {_first(empty)} have no hole in the {size} px that are "
                "evaluated of their pictures; white is the hole (--invert: black); what "
                "data.test_resize = 'shorter_side' crops off does not count, 'direct' keeps it"
            )
        )
    return found


def _by_stem(names: Sequence[str], masks: Sequence[str], folder: Path) -> dict[str, str] | None:
    """The mask of each picture, by stem; None if the masks are named otherwise."""
    of_stem = {_stem(mask): mask for mask in masks}
    stems = {_stem(name): name for name in names}
    both = stems.keys() & of_stem.keys()
    if 2 * len(both) < max(len(names), len(masks)):
        return None
    bare = [name for stem, name in stems.items() if stem not in both]
    spare = [mask for stem, mask in of_stem.items() if stem not in both]
    twice = [name for name in names if stems[_stem(name)] != name]
    twice += [mask for mask in masks if of_stem[_stem(mask)] != mask]
    faults = [
        f"{what} {_first(found)}"
        for what, found in (
            ("no mask for", bare),
            ("no picture for", spare),
            ("two files of one name but for the suffix:", twice),
        )
        if found
    ]
    if faults:
        raise UserError(
            printable(
                f"mask folder {folder}: {len(both)} of its masks are named like the pictures, but "
                f"there is {'; '.join(faults)}; complete or rename them, or write a mask list with "
                "`gmsrm masks assign`, which deals masks to any pictures"
            )
        )
    return of_stem


def _stem(name: str) -> str:
    """The path without its suffix, in composed Unicode, as file systems differ."""
    return unicodedata.normalize("NFC", PurePosixPath(name).with_suffix("").as_posix())


def _first(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
