"""The few filled pictures that an evaluation keeps, for the report: which, and their file."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from gmsrm_jax.evaluation.published import ABLATION_BIN, IRREGULAR_BINS
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import replacing
from gmsrm_jax.runtime.unreadable import UNREADABLE_NPZ

_NAMES = ("pictures", "bins", "methods")
_DRAWN = 4  # pictures of a figure


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
    kept: dict[str, Any] = {name: np.array(value) for name, value in vars(examples).items()}
    for name in _NAMES:  # also if there are none
        kept[name] = kept[name].astype(np.str_)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **kept)


def read_examples(path: str | Path) -> Examples:
    """Reads what `write_examples` wrote.

    Raises:
        UserError: the file is missing or not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {field.name: file[field.name] for field in fields(Examples)}
    except UNREADABLE_NPZ as error:
        raise UserError(
            f"{path}: cannot be read as the examples of an evaluation ({error}); evaluate again"
        ) from error
    return Examples(**arrays | {name: tuple(map(str, arrays[name])) for name in _NAMES})


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
    chosen, rows = {}, min(rows, pictures * bins)
    for row in range(rows):
        picture = row * pictures // rows
        bin_index = row * bins // rows if rows < bins else row % bins
        chosen[picture * bins + bin_index] = (bin_index, picture)
    return sorted(chosen, key=chosen.__getitem__)


def figure_examples(
    names: Sequence[str],
    bins: Sequence[str],
    *,
    pictures: Sequence[str] = (),
    seed: int = 0,
) -> list[int]:
    """Chooses pictures, and for each an irregular hole and the centre hole of 50 %.

    The k-th picture gets the k-th of the paper's irregular bins, in turn; so the pictures fill the
    rows of Figures 6, 8 and 9, and the same pictures those of Figure 10.

    Args:
        names: names of the evaluated pictures.
        bins: names of the bins that every picture has a mask of.
        pictures: names of the wanted ones, in order; without any, up to four are drawn.
        seed: of the draw; the same seed and names give the same pictures.

    Returns:
        Example indices, picture · len(bins) + bin; of `bins` without any of these, the first.

    Raises:
        UserError: a wanted picture is not among `names`.
    """
    places = {name: place for place, name in enumerate(names)}
    for name in pictures:
        if name not in places:
            raise UserError(
                f"figures: {name} is not among the {count_of(len(names), 'evaluated picture')} "
                f"({names[0]} … {names[-1]}); take names from per_image.csv"
            )
    if pictures:
        chosen = [places[name] for name in dict.fromkeys(pictures)]
    else:
        order = np.random.default_rng(seed).permutation(len(names))
        chosen = sorted(int(place) for place in order[:_DRAWN])
    irregular = [name for name in IRREGULAR_BINS if name in bins]
    examples = []
    for row, picture in enumerate(chosen):
        wanted = [irregular[row % len(irregular)]] if irregular else []
        wanted += [ABLATION_BIN] if ABLATION_BIN in bins else []
        examples += [picture * len(bins) + list(bins).index(n) for n in wanted or bins[:1]]
    return examples
