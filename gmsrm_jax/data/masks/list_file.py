"""A mask list and its file: which hole each test picture gets, packed into bits and hashed."""

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np

from gmsrm_jax.data.masks.bins import BIN_NAMES, LARGER, hole_ratio, size_name
from gmsrm_jax.data.masks.files import pack_masks, unpack_masks
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.unreadable import UNREADABLE_NPZ

PAIRED = "own mask"
"""The only name in `MaskList.bins` where each picture has a mask of its own, of any size."""


@dataclasses.dataclass(frozen=True)
class MaskList:
    """P pictures with B masks each, all S x S.

    Attributes:
        names: P picture names.
        bins: B names, such as "20-30%" or "centre 25%"; or PAIRED alone.
        size: S [px].
        seed: what the choice was drawn with.
        source: where the masks come from, one line.
        packed: uint8 [P, B, ceil(S² / 8)], the masks' bits, see `files.pack_masks`.
    """

    names: tuple[str, ...]
    bins: tuple[str, ...]
    size: int
    seed: int
    source: str
    packed: np.ndarray

    def mask(self, example: int) -> np.ndarray:
        """Mask number picture · B + bin, uint8 [S, S, 1], 1 in the hole."""
        picture, position = divmod(example, len(self.bins))
        return unpack_masks(self.packed[picture, position][None], self.size)[0]

    @cached_property
    def ratios(self) -> np.ndarray:
        """Share of hole pixels of each mask, float64 [P, B]."""
        ratios = [hole_ratio(self.mask(example)) for example in range(self._count)]
        return np.reshape(ratios, self.packed.shape[:2])

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """P * B names of what each mask is scored as: its bin."""
        if self.bins == (PAIRED,):
            return tuple(size_name(ratio) for ratio in self.ratios.flat)
        return self.bins * len(self.names)

    @property
    def scored(self) -> tuple[str, ...]:
        """The bins that occur among `labels`, in their order."""
        if self.bins != (PAIRED,):
            return self.bins
        return tuple(name for name in (*BIN_NAMES, LARGER) if name in self.labels)

    @cached_property
    def hashes(self) -> tuple[tuple[str, ...], ...]:
        """P tuples of B SHA-256 digests (hex) of the mask's S² bytes of 0 and 1."""
        digests = [
            hashlib.sha256(self.mask(example).tobytes()).hexdigest()
            for example in range(self._count)
        ]
        return tuple(zip(*[iter(digests)] * len(self.bins), strict=True))

    @property
    def _count(self) -> int:
        return len(self.names) * len(self.bins)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over size, bins, names and the masks' hashes, in order."""
        lines = [str(self.size), *self.bins]
        for name, hashes in zip(self.names, self.hashes, strict=True):
            lines += [name, *hashes]
        return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()

    def facts(self) -> dict[str, Any]:
        """What a result states about its masks, as JSON values."""
        labels, ratios = np.array(self.labels), self.ratios.reshape(-1)
        bins = {
            name: {
                "count": int((labels == name).sum()),
                "mean_ratio": float(ratios[labels == name].mean()),
            }
            for name in self.scored
        }
        return {
            "source": self.source,
            "seed": self.seed,
            "size": self.size,
            "sha256": self.sha256,
            "bins": bins,
        }

    def first(self, count: int) -> "MaskList":
        """The list of the first `count` pictures."""
        return dataclasses.replace(self, names=self.names[:count], packed=self.packed[:count])

    def check(self, names: Sequence[str], size: int, label: str = "the mask list") -> None:
        """Checks that the list is made for these pictures at this size.

        Args:
            names: names of the evaluated pictures, in order.
            size: their side [px].
            label: what the message calls the list.

        Raises:
            UserError: it is not.
        """
        cure = (
            "write the list of these pictures with `gmsrm masks assign`, or set "
            "config.evaluation.masks = 'generated'"
        )
        if self.size != size:
            raise UserError(
                f"{label}: its masks have {self.size} px, the evaluated pictures {size} px; {cure}"
            )
        pairs = zip_longest(self.names, names, fillvalue="nothing")
        for number, (listed, evaluated) in enumerate(pairs, start=1):
            if listed != evaluated:
                raise UserError(
                    f"{label}: made for {count_of(len(self.names), 'picture')}, evaluated are "
                    f"{len(names)}; number {number} is {listed} in the list and {evaluated} among "
                    f"the pictures; {cure}"
                )


def build_mask_list(
    names: Sequence[str],
    size: int,
    seed: int,
    source: str,
    masks: Iterator[list[np.ndarray]],
    bins: tuple[str, ...] = BIN_NAMES,
) -> MaskList:
    """Packs masks.

    Args:
        names: names of the test pictures.
        size: side S [px].
        seed: what the choice was drawn with.
        source: where the masks come from, one line.
        masks: for each picture the masks of all `bins`, uint8 [S, S, 1].
        bins: see `MaskList`.
    """
    packed = np.stack([pack_masks(np.stack(row)) for row in masks])
    return MaskList(tuple(names), bins, size, seed, source, packed)


def write_mask_list(path: str | os.PathLike[str], mask_list: MaskList) -> None:
    """Writes a mask list as an npz file without pickled objects; equal lists give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        packed=mask_list.packed,
        ratios=mask_list.ratios,
        sha256=np.array(mask_list.hashes, dtype=np.str_),
        names=np.array(mask_list.names, dtype=np.str_),
        bins=np.array(mask_list.bins, dtype=np.str_),
        size=np.int64(mask_list.size),
        seed=np.int64(mask_list.seed),
        source=np.array(mask_list.source, dtype=np.str_),
    )
    write_atomically(path, buffer.getvalue())


def save_mask_list(path: str | os.PathLike[str], mask_list: MaskList, overwrite: bool) -> bool:
    """Writes a mask list, but never over another one unless told to.

    Args:
        path: the file, *.npz.
        mask_list: what to write.
        overwrite: a file that holds anything else is replaced.

    Returns:
        Whether the file was written; False if it held this list already.

    Raises:
        UserError: the file holds something else, and `overwrite` is not set.
    """
    if os.path.exists(path):
        try:
            there = read_mask_list(path)
            if there.facts() == mask_list.facts():
                return False
            listed = count_of(len(there.names), "picture")
            found = f"{listed}, {there.source}, SHA-256 {there.sha256[:12]}…"
        except UserError:
            found = "it cannot be read as a mask list"
        if not overwrite:
            raise UserError(
                f"{path} exists with other content ({found}), not {mask_list.source}, SHA-256 "
                f"{mask_list.sha256[:12]}…; add --overwrite, or name another file"
            )
    write_mask_list(path, mask_list)
    return True


def read_mask_list(path: str | os.PathLike[str]) -> MaskList:
    """Reads a mask list and checks every mask against its hash and ratio.

    Raises:
        UserError: the file is missing, is no mask list, or was changed.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            mask_list = MaskList(
                names=tuple(str(name) for name in file["names"]),
                bins=tuple(str(name) for name in file["bins"]),
                size=int(file["size"]),
                seed=int(file["seed"]),
                source=str(file["source"]),
                packed=file["packed"],
            )
            hashes, ratios = file["sha256"], file["ratios"]
    except UNREADABLE_NPZ as error:
        raise UserError(
            f"{path}: cannot be read as a mask list ({error}); write one with `gmsrm masks assign`"
        ) from error
    shape, size = (len(mask_list.names), len(mask_list.bins)), mask_list.size
    if mask_list.packed.shape != (*shape, -(-(size**2) // 8)) or ratios.shape != shape:
        raise UserError(
            f"{path}: {mask_list.packed.shape} packed bits do not hold {shape[0]} x {shape[1]} "
            f"masks of {size} px; write the list again for this size"
        )
    same = (np.array(mask_list.hashes) == hashes) & (abs(mask_list.ratios - ratios) <= 1e-9)
    if not same.all():
        picture, position = np.argwhere(~same)[0]
        raise UserError(
            f"{path}: the mask of {mask_list.names[picture]}, {mask_list.bins[position]}, does not "
            "have the hash or ratio in the list; the file was changed, take a fresh copy"
        )
    return mask_list
