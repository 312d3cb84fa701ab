"""Scores as text: how a value is printed, which one is best, and the table for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gmsrm_jax.metrics import DEFINITIONS
from gmsrm_jax.metrics.extra import EXTRA_DEFINITIONS

DIGITS = {
    "psnr": 2,
    "ssim": 4,
    "ncc": 4,
    "lmse": 4,
    "l1": 2,
    "ssim_gaussian": 4,
    "psnr_hole": 2,
    "l1_hole": 2,
    "ssim_hole": 4,
}
UNDEFINED = "-"
_ARROWS = {"higher": "↑", "lower": "↓"}
_ALL_DEFINITIONS = {**DEFINITIONS, **EXTRA_DEFINITIONS}


def heading(metric: str) -> str:
    """A metric's label, unit and direction: "PSNR [dB] ↑"."""
    definition = _ALL_DEFINITIONS[metric]
    unit = "" if definition.unit == "1" else f" [{definition.unit}]"
    return f"{definition.label}{unit} {_ARROWS[definition.better]}"


def format_value(metric: str, value: float | None) -> str:
    """A score with the metric's number of digits; "-" where it is undefined."""
    return UNDEFINED if value is None else f"{value:.{DIGITS[metric]}f}"


def best_rows(metric: str, values: Sequence[float | None]) -> set[int]:
    """Indices of the best of several scores, compared as printed; empty if only one is defined."""
    printed = {
        row: float(format_value(metric, value))
        for row, value in enumerate(values)
        if value is not None
    }
    if len(printed) < 2:
        return set()
    choose = max if _ALL_DEFINITIONS[metric].better == "higher" else min
    best = choose(printed.values())
    return {row for row, value in printed.items() if math.isclose(value, best)}


def column(
    metrics: Mapping[str, Any], metric: str, bin_name: str, image_kind: str
) -> list[float | None]:
    """The mean scores of all methods in one ratio bin, in the order of `metrics["methods"]`."""
    return [scores[image_kind][bin_name][metric]["mean"] for scores in metrics["methods"].values()]


def format_table(metrics: Mapping[str, Any], image_kind: str = "composite") -> str:
    """The scores as plain text: one block per metric, methods as rows, ratio bins as columns.

    Args:
        metrics: as written to metrics.json.
        image_kind: which of `evaluate.IMAGE_KINDS` was scored.

    Returns:
        Lines without a final newline; an asterisk stands behind the best value of a column.
    """
    bins = list(metrics["mask_list"]["bins"])
    methods = list(metrics["methods"])
    blocks = []
    for metric in DEFINITIONS:
        rows = [[heading(metric), *bins]]
        rows += [[method] for method in methods]
        for bin_name in bins:
            values = column(metrics, metric, bin_name, image_kind)
            best = best_rows(metric, values)
            for row, value in enumerate(values):
                star = "*" if row in best else " "
                rows[row + 1].append(format_value(metric, value) + star)
        rows[0][1:] = [f"{name} " for name in bins]
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        blocks.append(
            "\n".join(
                "  ".join(
                    [cells[0].ljust(widths[0])]
                    + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
                ).rstrip()
                for cells in rows
            )
        )
    counts = {scores["count"] for scores in metrics["mask_list"]["bins"].values()}
    pictures = "/".join(str(count) for count in sorted(counts))
    return "\n\n".join([*blocks, f"{pictures} pictures per column; * best of its column"])
