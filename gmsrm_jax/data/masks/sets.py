"""Sets of hole masks, packed into bits: drawn from samplers, read from files, written to files.

Packed, the 12,000 masks of NVIDIA's irregular test set take 94 MiB at 256 px.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmsrm_jax.assets import resolve_path
from gmsrm_jax.data.bad_pictures import named, printable
from gmsrm_jax.data.formats import SUFFIXES
from gmsrm_jax.data.listing import list_images
from gmsrm_jax.data.masks.bins import center_mask, hole_ratio
from gmsrm_jax.data.masks.files import (
    pack_masks,
    read_mask,
    read_packed_masks,
    unpack_masks,
    write_packed_masks,
)
from gmsrm_jax.data.masks.list_file import read_mask_list
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import replacing
from gmsrm_jax.runtime.image_grid import to_png
from gmsrm_jax.runtime.log import shown
from gmsrm_jax.runtime.unreadable import UNREADABLE_NPZ

_CENTRE = "centre:"
_BANK = ".npz"
_AT_ONCE = 64  # masks
_MANY = 1000  # masks, from which on progress is shown
# Apart from the draws of the mask lists, or masks to train with would be masks to test with.
_SPAWN_KEY = (1,)


@dataclass(frozen=True)
class MaskSet:
    """N masks of one size.

    Attributes:
        bits: uint8 [N, ceil(S² / 8)], see `files.pack_masks`.
        size: side S [px].
        source: where they come from, one line.
    """

    bits: np.ndarray
    size: int
    source: str

    def __len__(self) -> int:
        """Returns N."""
        return len(self.bits)

    def mask(self, index: int) -> np.ndarray:
        """Returns a mask, uint8 [S, S, 1], 1 in the hole."""
        return unpack_masks(self.bits[index][None], self.size)[0]

    def ratios(self) -> np.ndarray:
        """Returns the share of hole pixels of each mask, float64 [N]."""
        return np.array([hole_ratio(self.mask(index)) for index in range(len(self))])


def draw_masks(sampler_spec: str, size: int, count: int | None, seed: int) -> MaskSet:
    """Draws masks; mask k depends on (sampler, size, seed, k) alone. Samplers need TensorFlow.

    Args:
        sampler_spec: a sampler or a mixture, see `data.masks.sampler`, or "centre:RATIO" for
            centre holes, which are all alike.
        size: side S [px].
        count: number of masks, at least 1; None for 2000, or 1 of centre holes.
        seed: at least 0.

    Raises:
        UserError: the sampler is unknown, the ratio is not in (0, 1], or TensorFlow is missing.
    """
    if sampler_spec.startswith(_CENTRE):
        packed = pack_masks(_centre_mask(sampler_spec, size)[None])
        return MaskSet(np.repeat(packed, count or 1, axis=0), size, sampler_spec)
    from gmsrm_jax.data.masks import sampler
    from gmsrm_jax.data.tensorflow_cpu import tf

    draw = sampler(sampler_spec)
    count = count or 2000
    words = np.random.SeedSequence(seed, spawn_key=_SPAWN_KEY).generate_state(2 * count)
    seeds = words.view(np.int32).reshape(count, 2)
    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(
        lambda pair: tf.cast(draw(pair, size), tf.uint8),
        num_parallel_calls=os.cpu_count(),
        deterministic=True,
    )
    batches = dataset.batch(_AT_ONCE).prefetch(1).as_numpy_iterator()
    masks = (mask for batch in batches for mask in pack_masks(batch))
    bits = np.stack([*shown(masks, "drawing masks", count, _MANY)])
    return MaskSet(bits, size, f"{sampler_spec}, seed {seed}")


def read_mask_folder(folder: str | os.PathLike[str], size: int, invert: bool = False) -> MaskSet:
    """Reads the mask pictures of a folder and its subfolders, in the order of their names.

    Args:
        folder: mask pictures, white = hole, see `files.read_hole`.
        size: side S [px] that they are resized to.
        invert: black is the hole.

    Raises:
        UserError: there is no mask picture, some cannot be read, or none has a hole.
    """
    root = Path(folder)
    paths = list_images(root)

    def read(path: Path) -> np.ndarray | UserError:
        try:
            return pack_masks(read_mask(path, size, invert)[None])[0]
        except UserError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [*shown(pool.map(read, paths), f"masks of {root}", len(paths), _MANY)]
    unreadable = {
        path.relative_to(root).as_posix(): mask
        for path, mask in zip(paths, found, strict=True)
        if isinstance(mask, UserError)
    }
    if unreadable:
        first = next(iter(unreadable.values()))
        raise UserError(
            printable(
                f"mask folder {root}: {len(unreadable)} of {count_of(len(paths), 'mask')} cannot "
                f"be read: {named(list(unreadable))}; the first: {first}, or remove it"
            )
        )
    bits = np.stack([mask for mask in found if not isinstance(mask, UserError)])
    if not bits.any():
        hole, other = ("black", "white") if invert else ("white", "black")
        raise UserError(
            f"mask folder {root}: none of {count_of(len(paths), 'mask')} has a {hole} pixel, which "
            f"is a hole; if {other} is the hole in them, {'do not ' if invert else ''}invert them"
        )
    files, inverted = count_of(len(paths), "file"), ", inverted" if invert else ""
    return MaskSet(bits, size, f"folder {root.resolve().name}, {files}{inverted}")


def open_masks(
    name: str,
    size: int | None = None,
    count: int | None = None,
    seed: int | None = None,
    invert: bool = False,
) -> MaskSet:
    """Opens masks that exist, or else draws them.

    Args:
        name: a mask bank or mask list (*.npz, "bundled:NAME" in the package), a folder of mask
            pictures, or a sampler spec as in `draw_masks`. What exists as a path is taken as one.
        size: side [px] for a folder and for drawn masks (256 if None).
        count: number of masks to draw, see `draw_masks`.
        seed: of the draw (0 if None).
        invert: black is the hole in a folder.

    Raises:
        UserError: nothing of that name can be opened or drawn, or an argument is of no use for it.
    """
    path = resolve_path(name)
    if not path.exists():
        if path.suffix == _BANK:
            raise UserError(f"{path}: no such file; write it with `gmsrm masks draw`")
        _refuse(f"{name} is no folder", invert=invert)
        try:
            return draw_masks(name, size or 256, count, seed or 0)
        except UserError as error:
            raise UserError(f"{name!r} is no existing path; as a sampler: {error}") from error
    _refuse(f"{name} exists and is not drawn", count=count is not None, seed=seed is not None)
    if path.is_dir():
        return read_mask_folder(path, size or 256, invert)
    _refuse(f"{name} is no folder", invert=invert, size=size is not None)
    if not _is_list(path):
        bits, side = read_packed_masks(path)
        return MaskSet(bits, side, f"mask bank {path.name}")
    masks = read_mask_list(path)
    shape = f"{count_of(len(masks.names), 'picture')} × {count_of(len(masks.bins), 'mask')}"
    bits = masks.packed.reshape(-1, masks.packed.shape[-1])
    return MaskSet(bits, masks.size, f"mask list of {shape}, {masks.source}")


def check_output(path: str, overwrite: bool) -> None:
    """Checks, before the masks are made, that `write_masks` will take a path.

    Args:
        path: a bank (*.npz) or a folder.
        overwrite: a bank may be there already.

    Raises:
        UserError: the bank exists, the folder is not empty, or the name is that of another file.
    """
    target = Path(path)
    if target.suffix in (*SUFFIXES, ".npy", ".zip"):  # a mistyped bank rather than a folder
        raise UserError(f"{path}: masks are written as a bank, *{_BANK}, or to a folder; rename it")
    if target.suffix == _BANK:
        if target.exists() and not overwrite:
            raise UserError(f"{path} exists; add --overwrite, or name another file")
    elif target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{path} exists and is no empty folder; name a new folder, or *{_BANK}")


def write_masks(path: str, masks: MaskSet) -> None:
    """Writes masks as a bank (*.npz), or as PNGs to a new folder; equal masks give equal files.

    The PNGs are 00000.png and so on, grey with 8 bits, 255 in the hole.
    """
    target = Path(path)
    if target.suffix == _BANK:
        write_packed_masks(target, masks.bits, masks.size)
        return
    with replacing(target) as temporary:
        digits = max(5, len(str(len(masks) - 1)))
        temporary.mkdir()
        for index in range(len(masks)):
            png = to_png(masks.mask(index) * np.uint8(255))
            (temporary / f"{index:0{digits}d}.png").write_bytes(png)


def _is_list(path: Path) -> bool:
    """Tells a mask list from a mask bank."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return "packed" in file.files
    except UNREADABLE_NPZ as error:
        # NumPy takes whatever is no npz for a pickle, and its advice would be dangerous.
        reason = getattr(error, "strerror", None) or "no npz file, or damaged"
        raise UserError(
            f"{path}: neither a mask bank nor a mask list ({reason}); name one, or a folder of "
            "mask pictures"
        ) from error


def _centre_mask(spec: str, size: int) -> np.ndarray:
    try:
        ratio = float(spec.removeprefix(_CENTRE))
    except ValueError as error:
        raise UserError(f"{spec!r}: write a share of the picture, as {_CENTRE}0.25") from error
    return center_mask(size, ratio)


def _refuse(reason: str, **given: bool) -> None:
    """Raises UserError if an option is given that has no effect here."""
    for option, is_given in given.items():
        if is_given:
            raise UserError(f"{reason}, so --{option} has no effect; leave it out")
