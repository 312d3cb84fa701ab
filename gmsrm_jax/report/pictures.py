"""Filled pictures side by side: the rows of a report, and the paper's Figures 6, 8, 9 and 10."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmsrm_jax.evaluation.examples import Examples
from gmsrm_jax.evaluation.published import ABLATION_BIN, IRREGULAR_BINS, VARIANTS
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.image_grid import holed, labelled_sheet, mask_picture, outline, upscale

_WHITE = 255
_FIGURE_PIXELS = 192  # smaller pictures are enlarged, so that the outline is thin beside them
_MAX_ROWS = 4


@dataclass(frozen=True)
class Picture:
    """A picture, uint8 [H, W, 3], its heading, and what a reader who cannot see it is told."""

    label: str
    image: np.ndarray
    alt: str


@dataclass(frozen=True)
class PanelRow:
    """Pictures side by side, with what the row shows and a smaller line below.

    The rows of a report all have the same labels.
    """

    label: str
    detail: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Figure:
    """Methods side by side: input | methods | truth, the hole outlined in all but the truth.

    Attributes:
        name: file name without ending, such as "figure_6".
        title: heading.
        rows: one per example, at least one.
    """

    name: str
    title: str
    rows: tuple[PanelRow, ...]

    def sheet(self) -> np.ndarray:
        """The figure as one picture, uint8 [H, W, 3], with the labels below the columns."""
        labels = [picture.label for picture in self.rows[0].pictures]
        rows = [[picture.image for picture in row.pictures] for row in self.rows]
        numbered = [f"({chr(ord('a') + i)}) {label}" for i, label in enumerate(labels)]
        return labelled_sheet(numbered, rows)


def not_filled(metrics: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Pairs (method, bin) of which an evaluation has no pictures, from its metrics.json.

    A folder of another program's pictures may leave bins out.
    """
    return frozenset(
        (method, bin_name)
        for method, kinds in metrics["methods"].items()
        for bin_name, scores in kinds["composite"].items()
        if all(score["count"] + score["undefined"] == 0 for score in scores.values())
    )


def panel_rows(
    examples: Examples,
    raw_of: str,
    missing: Collection[tuple[str, str]] = (),
    count: int | None = None,
) -> list[PanelRow]:
    """Rows input | mask | composites | raw output | other composites | truth.

    Args:
        examples: from an evaluation.
        raw_of: the method whose raw output is shown too, next to its composite.
        missing: see `not_filled`; white takes the place of these pictures.
        count: rows, from the first; None takes all.

    Raises:
        ValueError: `raw_of` is not among the examples' methods.
    """
    if raw_of not in examples.methods:
        raise ValueError(f"method {raw_of!r} is not one of {examples.methods}")
    place = examples.methods.index(raw_of)
    rows = []
    for index in range(len(examples.pictures))[:count]:
        held, *filled, truth = _cells(examples, index, examples.methods, missing)
        mask = ("mask", mask_picture(examples.mask[index]))
        filled.insert(place + 1, (f"{raw_of}, raw output", examples.raw[place, index]))
        rows.append(_row(examples, index, [held, mask, *filled, truth]))
    return rows


def comparison(
    name: str,
    examples: Examples,
    pictures: Sequence[str] = (),
    seed: int = 0,
    missing: Collection[tuple[str, str]] = (),
) -> Figure | None:
    """All methods side by side on irregular holes of 20-60 %, as in Figures 6, 8 and 9.

    Args:
        name: "figure_6", "figure_8" or "figure_9".
        examples: from an evaluation; if none has such a hole, all count.
        pictures: names of those to show, in order; without any, at most four are drawn.
        seed: of the draw.
        missing: see `not_filled`; white takes the place of these pictures.

    Returns:
        The figure; None if there are no examples.

    Raises:
        UserError: a picture is not among the examples.
    """
    title = f"Methods side by side (the paper's Figure {name.removeprefix('figure_')})"
    chosen = _chosen(examples, IRREGULAR_BINS, pictures, seed)
    return _figure(name, title, examples, chosen, examples.methods, missing)


def ablation(examples: Examples, pictures: Sequence[str] = (), seed: int = 0) -> Figure | None:
    """The variants side by side on centre holes of 50 %, as in Figure 10; see `comparison`.

    Returns:
        The figure; None if there are fewer than two variants, or no examples.
    """
    methods = [name for name in VARIANTS if name in examples.methods]
    if len(methods) < 2:
        return None
    chosen = _chosen(examples, (ABLATION_BIN,), pictures, seed)
    return _figure("figure_10", "The variants (the paper's Figure 10)", examples, chosen, methods)


def _figure(
    name: str,
    title: str,
    examples: Examples,
    chosen: Sequence[int],
    methods: Sequence[str],
    missing: Collection[tuple[str, str]] = (),
) -> Figure | None:
    """Input | methods | truth, enlarged if small, the hole outlined in what has one."""
    rows = []
    factor = -(-_FIGURE_PIXELS // examples.truth.shape[1])
    for index in chosen:
        mask = upscale(examples.mask[index], factor)
        cells = []
        for label, image in _cells(examples, index, methods, missing):
            large = upscale(image, factor)
            plain = label == "truth" or (label, examples.bins[index]) in missing
            cells.append((label, large if plain else outline(large, mask)))
        rows.append(_row(examples, index, cells))
    return Figure(name, title, tuple(rows)) if rows else None


def _row(examples: Examples, index: int, cells: Sequence[tuple[str, np.ndarray]]) -> PanelRow:
    name, bin_name = examples.pictures[index], examples.bins[index]
    pictures = tuple(
        Picture(label, image, f"{label}: {name}, hole {bin_name}") for label, image in cells
    )
    return PanelRow(bin_name, f"{examples.ratios[index]:.1%} of {name}", pictures)


def _chosen(
    examples: Examples, bins: Sequence[str], pictures: Sequence[str], seed: int
) -> list[int]:
    """Places of the examples to show, one per picture: those of `bins` if there are any."""
    order = sorted(range(len(examples.pictures)), key=lambda i: (examples.bins[i] not in bins, i))
    of_picture: dict[str, int] = {}
    for index in order:
        of_picture.setdefault(examples.pictures[index], index)
    for name in pictures:
        if name not in of_picture:
            raise UserError(
                f"figures: {name} is not among the {count_of(len(of_picture), 'picture')} that the "
                f"evaluation kept ({', '.join(sorted(of_picture))}); take one of these, or "
                "evaluate again"
            )
    if pictures:
        return [of_picture[name] for name in dict.fromkeys(pictures)]
    wanted = [index for index in of_picture.values() if examples.bins[index] in bins]
    candidates = wanted or list(of_picture.values())
    drawn = np.random.default_rng(seed).permutation(len(candidates))[:_MAX_ROWS]
    return [candidates[place] for place in sorted(drawn)]


def _cells(
    examples: Examples,
    index: int,
    methods: Sequence[str],
    missing: Collection[tuple[str, str]],
) -> list[tuple[str, np.ndarray]]:
    """Input, methods and truth of an example, each with its label."""
    truth = examples.truth[index]
    cells = [("input", holed(truth, examples.mask[index]))]
    for method in methods:
        filled = examples.composite[examples.methods.index(method), index]
        absent = (method, examples.bins[index]) in missing
        cells.append((method, np.full_like(filled, _WHITE) if absent else filled))
    return [*cells, ("truth", truth)]
