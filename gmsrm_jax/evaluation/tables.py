"""A table of scores as a tidy frame: how measures are headed, printed and compared."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gmsrm_jax.metrics import Definition

if TYPE_CHECKING:
    import pandas as pd

UNDEFINED = "-"
PAPER_DIGITS = {"psnr": 2, "ssim": 3, "ncc": 3, "lmse": 3}
"""Digits behind the point in the paper's tables."""
_ARROWS = {"higher": "↑", "lower": "↓", "nearer to 1": "→ 1"}
_RATIO_DIGITS, _OTHER_DIGITS = 4, 2  # of measures without and with a unit
_DIGITS = {"fid": 2}  # without a unit, but not between 0 and 1


class Score(NamedTuple):
    """One value of a table, see `Table.scores`."""

    measure: str
    metric: str
    method: str
    data_set: str
    column: str
    value: float | None
    type: str = ""
    published: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """A table in no particular format.

    Attributes:
        name: file name without ending, such as "table_1".
        title: what it is called, such as "Table I".
        caption: one or two sentences.
        scores: one row for each printed value, in the order of the table, with the columns

            - measure: its key, such as "psnr"; empty for a count;
            - metric: heading of the rows' group, such as "PSNR [dB] ↑"; empty in Table IV, whose
              columns are the metrics;
            - method, type: the row's label, and the paper's "Type", empty where it does not apply;
            - published: whether the row is the paper's;
            - data_set, column: the two headings above, such as "Places2" and "20-30%";
            - value: float, NaN where undefined;
            - text: as printed;
            - best: whether it is the best of our rows in its column.
        notes: lines below the table.
        command: what to type to make it again; empty if that is not said.
    """

    name: str
    title: str
    caption: str
    scores: "pd.DataFrame"
    notes: tuple[str, ...]
    command: str = ""

    def grid(self, values: str = "text") -> "pd.DataFrame":
        """One column of `scores` as the table shows it, in the order of `scores`.

        Returns:
            Metric (if there is more than one group) and Method as index, data sets and their
            columns as columns; "Type" before them where some row has one.
        """
        rows, columns = ["metric", "method", "type", "published"], ["data_set", "column"]
        grid = self.scores.set_index([*rows, *columns], drop=False)[values]
        grid = grid.unstack(columns, sort=False)
        types = grid.index.get_level_values("type")
        kept = ["metric", "method"] if grid.index.get_level_values("metric").any() else ["method"]
        grid.index = grid.index.droplevel([name for name in rows if name not in kept])
        grid.index.names = [name.capitalize() for name in kept]
        grid.columns.names = [None, None]
        if types.any():
            grid.insert(0, ("", "Type"), types if values == "text" else False)
        return grid


def heading(definition: Definition) -> str:
    """A measure's label, unit and direction: "PSNR [dB] ↑"."""
    unit = "" if definition.unit == "1" else f" [{definition.unit}]"
    return f"{definition.label}{unit} {_ARROWS[definition.better]}"


def score_text(
    metric: str, definition: Definition | None, score: float | None, paper_digits: bool = False
) -> str:
    """A score as printed.

    Args:
        metric: name of the measure.
        definition: of the measure; None for a count.
        score: None or NaN where it is undefined, which is printed as "-".
        paper_digits: as many digits as the paper has, where it has that measure.
    """
    if score is None or math.isnan(score):
        return UNDEFINED
    if definition is None:
        return f"{score:,.0f}"
    usual = _RATIO_DIGITS if definition.unit == "1" else _OTHER_DIGITS
    digits = _DIGITS.get(metric, usual)
    if paper_digits:
        digits = PAPER_DIGITS.get(metric, digits)
    return f"{score:.{digits}f}"


def tidy(
    scores: Iterable[Score], definitions: Mapping[str, Definition], paper_digits: bool = False
) -> "pd.DataFrame":
    """Returns `Table.scores`."""
    import pandas as pd

    frame = pd.DataFrame(scores, columns=Score._fields).astype({"value": float})
    texts = [
        score_text(measure, definitions.get(measure), value, paper_digits)
        for measure, value in zip(frame["measure"], frame["value"], strict=True)
    ]
    frame = frame.assign(text=texts)
    return frame.assign(best=best(frame, definitions))


def best(frame: "pd.DataFrame", definitions: Mapping[str, Definition]) -> Any:
    """Which of our rows are the best of their column, as a boolean series.

    Scores are compared as printed; a single one that is defined is not the best.
    """
    better = frame["measure"].map({name: each.better for name, each in definitions.items()})
    compared = ~frame["published"] & better.notna() & (frame["text"] != UNDEFINED)
    # What follows the number, such as a deviation, does not count.
    numbers = frame["text"].str.split().str[0].where(compared).astype(float)
    printed = numbers.where(better == "higher", -numbers)
    printed = printed.where(better != "nearer to 1", -(numbers - 1.0).abs())
    columns = printed.groupby([frame[name] for name in ("measure", "data_set", "column")])
    return (printed == columns.transform("max")) & (columns.transform("count") > 1)
