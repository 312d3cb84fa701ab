"""Where mask lists come from: drawn, taken from a folder of mask files, or read.

A list has for every test picture one mask of each ratio bin and the two centre holes. Evaluations
with the same list are comparable; the list's own hash says whether it is the same.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.assets import asset_path, resolve_path
from gmsrm_jax.data.masks.bins import (
    CENTRE_RATIOS,
    RATIO_BINS,
    bin_name,
    center_mask,
    hole_ratio,
    ratio_bin,
)
from gmsrm_jax.data.masks.list_file import MaskList, build_mask_list, read_mask_list
from gmsrm_jax.data.masks.sets import read_mask_folder
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import shown

_SAMPLERS = ("pic_irregular", "pic_regular")
_DRAWS_AT_ONCE = 16
# Rectangles fall into the rarest bin, 0-10 %, once in twelve draws.
_MAX_DRAWS = 4096
_MANY = 200  # pictures, from which on progress is shown


def _centre_masks(size: int) -> list[np.ndarray]:
    return [center_mask(size, ratio).astype(np.uint8) for ratio in CENTRE_RATIOS]


def make_mask_list(names: Sequence[str], size: int, seed: int) -> MaskList:
    """Draws a mask list from PIC's samplers, irregular and regular masks in turn.

    For every picture, masks are drawn until each ratio bin has one, and the first of each bin is
    kept. The masks of a picture depend on (seed, the picture's place in `names`) alone. Needs
    TensorFlow.

    Args:
        names: names of the test pictures.
        size: side S [px].
        seed: at least 0.

    Returns:
        The list.

    Raises:
        RuntimeError: a bin stays empty after 4096 draws.
    """
    from gmsrm_jax.data.masks import SAMPLERS
    from gmsrm_jax.data.tensorflow_cpu import tf

    @tf.function
    def draw(seeds: tf.Tensor) -> tf.Tensor:
        """Masks uint8 [n, samplers, S, S, 1] of seeds int32 [n, samplers, 2]."""

        def one(pair: tf.Tensor) -> tf.Tensor:
            masks = [SAMPLERS[name](pair[i], size) for i, name in enumerate(_SAMPLERS)]
            return tf.cast(tf.stack(masks), tf.uint8)

        return tf.map_fn(one, seeds, fn_output_signature=tf.uint8)

    def masks() -> Iterator[list[np.ndarray]]:
        for picture in range(len(names)):
            words = np.random.SeedSequence([seed, picture]).generate_state(2 * _MAX_DRAWS)
            seeds = words.view(np.int32).reshape(-1, _DRAWS_AT_ONCE, len(_SAMPLERS), 2)
            found: dict[int, np.ndarray] = {}
            for block in seeds:
                drawn = draw(tf.constant(block)).numpy().reshape(-1, size, size, 1)
                for mask in drawn:
                    index = ratio_bin(hole_ratio(mask))
                    if index is not None:
                        found.setdefault(index, mask)
                if len(found) == len(RATIO_BINS):
                    break
            else:
                empty = [bin_name(i) for i in range(len(RATIO_BINS)) if i not in found]
                raise RuntimeError(f"no mask of {', '.join(empty)} in {_MAX_DRAWS} draws")
            yield [found[index] for index in range(len(RATIO_BINS))] + _centre_masks(size)

    source = f"generated ({' and '.join(_SAMPLERS)}, seed {seed})"
    drawn = shown(masks(), "drawing masks", len(names), _MANY)
    return build_mask_list(names, size, seed, source, drawn)


def assign_from_folder(
    names: Sequence[str],
    size: int,
    seed: int,
    folder: str | os.PathLike[str],
    invert: bool = False,
) -> MaskList:
    """Takes the masks of the ratio bins from a folder of mask files, such as NVIDIA's test set.

    Masks are resized to S x S (nearest) and sorted into bins by the ratio measured afterwards;
    those without a hole or above 60 % are left out. Each bin's masks are put in an order drawn
    from the seed and dealt to the pictures in turn, so no mask comes twice before all came once.

    Args:
        names: names of the test pictures.
        size: side S [px].
        seed: at least 0.
        folder: mask files, white = hole, in any sub-folders.
        invert: black is the hole.

    Returns:
        The list. Its source names the folder, the number of its files, and the seed.

    Raises:
        UserError: there is no mask file, one cannot be read, or none is in some bin.
    """
    found = read_mask_folder(folder, size, invert)
    bins = np.array([ratio_bin(ratio) for ratio in found.ratios()], float)  # NaN: in no bin
    by_bin = [np.flatnonzero(bins == index) for index in range(len(RATIO_BINS))]
    empty = [bin_name(index) for index, members in enumerate(by_bin) if not len(members)]
    if empty:
        raise UserError(
            f"mask folder {folder}: none of {count_of(len(found), 'mask')} has a hole of "
            f"{', '.join(empty)} at {size} px; add some, name each mask like its picture to score "
            "these pairs alone, let masks be drawn ('generated'), or if black is the hole there, "
            "say --invert or --config.evaluation.invert_masks=True"
        )
    orders = []
    for index, members in enumerate(by_bin):
        words = np.random.SeedSequence([seed, index]).generate_state(len(members))
        orders.append(members[words.argsort(kind="stable")])

    def masks() -> Iterator[list[np.ndarray]]:
        for picture in range(len(names)):
            row = [found.mask(order[picture % len(order)]) for order in orders]
            yield row + _centre_masks(size)

    return build_mask_list(names, size, seed, f"{found.source}, seed {seed}", masks())


def open_mask_list(config: ConfigDict, names: Sequence[str]) -> MaskList:
    """The mask list that `config.evaluation.masks` names.

    "generated" draws it, "bundled" reads the package's list for `config.image_size`, a path
    *.npz reads a list, any other path is a folder of mask files. With
    `config.evaluation.max_images` above 0, the first pictures of a longer list are taken.

    Args:
        config: uses image_size, evaluation.masks, .invert_masks, .seed and .max_images.
        names: names of the evaluated pictures, see `evaluation.batches.evaluated_names`.

    Raises:
        UserError: the list is missing or damaged, or its size or names are not those evaluated.
    """
    size, seed = config.image_size, config.evaluation.seed
    spec = config.evaluation.masks
    if spec == "generated":
        return make_mask_list(names, size, seed)
    if spec == "bundled":
        path = _bundled(size)
    else:
        path = resolve_path(spec)
        if path.is_dir():
            return assign_from_folder(names, size, seed, path, config.evaluation.invert_masks)
        if not path.exists() or path.suffix != ".npz":
            raise UserError(
                f"config.evaluation.masks = {spec!r} is no folder and no mask list *.npz; use "
                "'generated', 'bundled', or the path of either"
            )
    mask_list = read_mask_list(path)
    if config.evaluation.max_images:
        mask_list = mask_list.first(len(names))
    mask_list.check(names, size, f"config.evaluation.masks = {spec!r}")
    return mask_list


def _bundled(size: int) -> Path:
    try:
        return asset_path(f"facades/test_masks_{size}.npz")
    except UserError as error:
        raise UserError(
            f"config.evaluation.masks = 'bundled', but no list of {size} px is bundled; use "
            "'generated', or a bundled size"
        ) from error
