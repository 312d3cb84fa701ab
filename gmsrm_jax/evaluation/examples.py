"""The few filled pictures that an evaluation keeps, for the report."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.unreadable import UNREADABLE_NPZ


@dataclass(frozen=True)
class Examples:
    """K test examples and what M methods made of them.

    Attributes:
        pictures: K picture names.
        bins: K names of ratio bins.
        ratios: float64 [K], hole ratios.
        methods: M names.
        truth: uint8 [K, S, S, 3], 0..255.
        mask: uint8 [K, S, S, 1], 1 in the hole.
        composite: uint8 [M, K, S, S, 3], filled pictures.
        raw: uint8 [M, K, S, S, 3], outputs before the known pixels were put back, rounded.
    """

    pictures: tuple[str, ...]
    bins: tuple[str, ...]
    ratios: np.ndarray
    methods: tuple[str, ...]
    truth: np.ndarray
    mask: np.ndarray
    composite: np.ndarray
    raw: np.ndarray


def write_examples(path: str | Path, examples: Examples) -> None:
    """Writes the examples to an npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        pictures=np.array(examples.pictures, dtype=np.str_),
        bins=np.array(examples.bins, dtype=np.str_),
        ratios=examples.ratios,
        methods=np.array(examples.methods, dtype=np.str_),
        truth=examples.truth,
        mask=examples.mask,
        composite=examples.composite,
        raw=examples.raw,
    )
    write_atomically(path, buffer.getvalue())


def read_examples(path: str | Path) -> Examples:
    """Reads what `write_examples` wrote.

    Raises:
        UserError: the file is missing or not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return Examples(
                pictures=tuple(str(name) for name in file["pictures"]),
                bins=tuple(str(name) for name in file["bins"]),
                ratios=file["ratios"],
                methods=tuple(str(name) for name in file["methods"]),
                truth=file["truth"],
                mask=file["mask"],
                composite=file["composite"],
                raw=file["raw"],
            )
    except UNREADABLE_NPZ as error:
        raise UserError(
            f"{path}: cannot be read as the examples of an evaluation ({error}); evaluate again"
        ) from error


def spread(pictures: int, bins: int, rows: int) -> list[int]:
    """Chooses examples that differ in picture and in bin.

    Args:
        pictures: number of test pictures.
        bins: masks of each picture.
        rows: examples wanted.

    Returns:
        At most `rows` example indices, picture · bins + bin, ordered by bin: pictures are spread
        evenly over the test set, bins over the list.
    """
    chosen = {}
    for row in range(min(rows, pictures * bins)):
        picture = row * pictures // rows
        bin_index = row * bins // rows if rows < bins else row % bins
        chosen[picture * bins + bin_index] = (bin_index, picture)
    return sorted(chosen, key=chosen.__getitem__)
