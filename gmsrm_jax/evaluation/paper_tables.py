"""Scores in the layout of the paper's Tables I, II and IV, and of all hole sizes.

The paper's rows stand above ours where the data set is one of the paper's; they are marked and
never count for the best.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gmsrm_jax.evaluation import published
from gmsrm_jax.evaluation.labels import (
    PAPER_DIGITS,
    UNDEFINED,
    heading,
    score_text,
)
from gmsrm_jax.evaluation.published import VARIANTS
from gmsrm_jax.evaluation.table_formats import Table
from gmsrm_jax.methods import rows as rows_of_methods
from gmsrm_jax.metrics import Definition
from gmsrm_jax.runtime.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Metrics = Mapping[str, Any]
"""The content of a metrics.json."""

UNNAMED = "Test pictures"
"""A data set that `config.evaluation.dataset` does not name."""

_TYPES = {row.title: row.priors for row in rows_of_methods()}
_PAPER_SIZE = 256
_LEGEND = "↑ higher is better, ↓ lower is better; bold: best of our rows in a column."
_SETS = ("fid", "p_ids", "u_ids")  # measures of all pictures of a bin together


@dataclass(frozen=True)
class _Column:
    """One column of values: a ratio bin of a data set."""

    data_set: str
    run: Metrics
    bin_name: str


class Row(NamedTuple):
    """A row of a table; `published` is one of the paper's."""

    label: str
    method: str
    type: str = ""
    published: bool = False


def irregular_table(runs: Mapping[str, Metrics]) -> Table:
    """Table I: irregular holes of 20-60 %, metrics as groups of rows, data sets times bins.

    Args:
        runs: data set to the metrics of its evaluation; a data set with a name of
            `published.PUBLISHED` gets the paper's rows too.
    """
    caption = "Irregular holes that cover 20-60% of the picture."
    return _grid("table_1", "Table I", caption, "I", runs)


def centre_table(runs: Mapping[str, Metrics]) -> Table:
    """Table II: centre holes of 25 % and 50 %; see `irregular_table`."""
    caption = "Square holes in the centre that cover 25% and 50% of the picture."
    return _grid("table_2", "Table II", caption, "II", runs)


def full_table(runs: Mapping[str, Metrics], image_kind: str = "composite") -> Table:
    """Supplement: every bin that was scored, with more digits and without the paper's rows.

    Args:
        runs: see `irregular_table`.
        image_kind: which of `batches.IMAGE_KINDS` was scored.
    """
    caption = "Every hole size that was scored."
    return _grid("table_all", "All hole sizes", caption, None, runs, image_kind)


def ablation_table(data_set: str, runs: Sequence[Metrics]) -> Table:
    """Table IV: the variants at a centre hole of 50 %, metrics as columns.

    Args:
        data_set: its name; CelebA-HQ256 gets the paper's rows too.
        runs: evaluations that hold at least one variant each, all with the same masks.

    Raises:
        UserError: the masks differ, a variant is there twice, or an evaluation holds none.
    """
    lists = {run["mask_list"]["sha256"][:12] for run in runs}
    if len(lists) > 1:
        raise UserError(
            f"Table IV of {data_set}: the variants were scored with different mask lists "
            f"({', '.join(sorted(lists))}); evaluate them again with one --masks"
        )
    found: dict[str, Metrics] = {}
    for run in runs:
        for variant in VARIANTS:
            if variant in run["methods"]:
                if variant in found:
                    raise UserError(
                        f"Table IV of {data_set}: {variant} was scored in two of the evaluations; "
                        "give one of each variant"
                    )
                found[variant] = run
        if not any(variant in run["methods"] for variant in VARIANTS):
            raise UserError(
                f"Table IV of {data_set}: an evaluation of {', '.join(run['methods'])} has none of "
                f"{', '.join(VARIANTS)}; evaluate checkpoints of the variants, not with mean noise "
                "alone"
            )
    if not found:
        raise UserError(f"Table IV of {data_set}: there are no evaluations; give some")
    bin_name = published.ABLATION_BIN
    definitions = _definitions(found.values())
    paper = published.PUBLISHED.get(data_set, {}).get("IV", {})
    rows = [Row(f"{variant} (paper)", variant, published=True) for variant in paper]
    rows += [Row(variant, variant) for variant in VARIANTS if variant in found]
    records = []
    for row in rows:
        for metric, definition in definitions.items():
            own = {"data_set": data_set, "column": heading(definition)}
            if row.published:
                own |= _paper_score(data_set, "IV", row.method, metric, bin_name)
            else:
                score = mean_score(found[row.method], row.method, bin_name, metric)
                own |= our_score(metric, definition, score, paper_digits=True)
            records.append(record(row, **own))
    places = [_Column(data_set, run, bin_name) for run in found.values()]
    return Table(
        name="table_4",
        title="Table IV",
        caption=f"The variants, {bin_name.replace('centre', 'centre hole of')} of the picture. "
        + _LEGEND,
        scores=tidy(records),
        notes=_notes(places[:1], bool(paper))
        + _undefined([(place, [v]) for place, v in zip(places, found, strict=True)], definitions),
    )


def _grid(
    name: str,
    title: str,
    caption: str,
    paper_table: str | None,
    runs: Mapping[str, Metrics],
    image_kind: str = "composite",
) -> Table:
    """A table with metrics as groups of rows and data sets times bins as columns."""
    columns = []
    for data_set, run in runs.items():
        bins = published.TABLE_BINS[paper_table] if paper_table else run["mask_list"]["bins"]
        columns += [_Column(data_set, run, bin_name) for bin_name in bins]
    definitions = _definitions(runs.values(), image_kind)
    methods = list(dict.fromkeys(method for run in runs.values() for method in run["methods"]))
    papers = []
    if paper_table and any(data_set in published.PUBLISHED for data_set in runs):
        papers = list(published.TYPES)
    # "GM-SRM, mean noise" learns what GM-SRM learns.
    ours = [Row(name, name, _TYPES.get(name.split(",")[0], "")) for name in methods]
    theirs = [Row(f"{name} (paper)", name, published.TYPES[name], True) for name in papers]
    records = []
    for metric, definition in definitions.items():
        rows = [*theirs, *ours] if metric in published.METRICS else ours
        for row, column in itertools.product(rows, columns):
            bin_name = column.bin_name
            if row.published:
                own = _paper_score(column.data_set, str(paper_table), row.method, metric, bin_name)
            else:
                score = mean_score(column.run, row.method, bin_name, metric, image_kind)
                own = our_score(metric, definition, score, paper_digits=bool(paper_table))
            own |= {"data_set": column.data_set, "column": bin_name}
            records.append(record(row, metric=heading(definition), **own))
    scores = tidy(records)
    return Table(
        name=name,
        title=title,
        caption=f"{caption} {_LEGEND}",
        scores=scores if paper_table else scores.assign(type=""),
        notes=_notes(columns, bool(papers), paper_table)
        + _undefined([(column, methods) for column in columns], definitions, image_kind),
    )


def _definitions(runs: Iterable[Metrics], image_kind: str = "composite") -> dict[str, Definition]:
    """The metrics that images of this kind were scored with: the paper's first."""
    found: dict[str, Definition] = {}
    for run in runs:
        scored = {
            metric
            for kinds in run["methods"].values()
            for scores in kinds[image_kind].values()
            for metric in scores
        }
        if image_kind == "composite" and "distribution" in run:
            scored |= set(_SETS)
        for metric, item in run["definitions"].items():
            if metric in scored:
                found.setdefault(metric, Definition(**item))
    first = [metric for metric in published.METRICS if metric in found]
    return {metric: found[metric] for metric in dict.fromkeys([*first, *found])}


def mean_score(
    run: Metrics, method: str, bin_name: str, metric: str, image_kind: str = "composite"
) -> float | None:
    """A method's mean score; None where there is none."""
    if metric in _SETS:
        scores = run.get("distribution", {}).get(method, {}).get(bin_name, {})
        return scores.get(metric)
    scores = run["methods"].get(method, {}).get(image_kind, {}).get(bin_name, {})
    return scores[metric]["mean"] if metric in scores else None


def record(row: Row, **values: Any) -> dict[str, Any]:
    """One row of `Table.scores` but for "best", which `tidy` finds."""
    usual = {"measure": "", "metric": "", "value": math.nan, "marked": False, "better": ""}
    return {"method": row.label, "type": row.type, "published": row.published} | usual | values


def our_score(
    metric: str, definition: Definition, score: float | None, paper_digits: bool = False
) -> dict[str, Any]:
    """What a score of ours adds to a record; "better" says which wins, "" compares none."""
    return {
        "measure": metric,
        "value": math.nan if score is None else score,
        "text": score_text(metric, definition, score, paper_digits),
        "better": definition.better,
    }


def tidy(records: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Returns `Table.scores`: the records, with the best of our rows in each column.

    Scores are compared as printed; a single one that is defined is not the best.
    """
    import pandas as pd

    frame = pd.DataFrame.from_records(records)
    compared = ~frame["published"] & (frame["better"] != "") & (frame["text"] != UNDEFINED)
    # What follows the number, such as a deviation, does not count.
    numbers = frame["text"].str.split().str[0].where(compared).astype(float)
    printed = numbers.where(frame["better"] == "higher", -numbers)
    printed = printed.where(frame["better"] != "nearer to 1", -(numbers - 1.0).abs())
    columns = printed.groupby([frame[name] for name in ("measure", "data_set", "column")])
    best = (printed == columns.transform("max")) & (columns.transform("count") > 1)
    return frame.drop(columns="better").assign(best=best)


def _paper_score(
    data_set: str, table: str, method: str, metric: str, bin_name: str
) -> dict[str, Any]:
    """What a score of the paper's adds to a record."""
    scores = published.PUBLISHED.get(data_set, {}).get(table, {}).get(method, {})
    value = scores.get(metric, {}).get(bin_name)
    if value is None:
        return {"measure": metric, "text": UNDEFINED}
    return {
        "measure": metric,
        "value": value,
        "text": f"{value:.{PAPER_DIGITS[metric]}f}",
        "marked": published.contradiction(data_set, table, method, metric, bin_name) is not None,
    }


def scored_pictures(data_set: str, run: Metrics) -> str:
    """A note on what was scored: how many pictures, with which masks."""
    masks = run["mask_list"]
    return (
        f"{data_set}: {run['pictures']} pictures at {run['image_size']} px, masks: "
        f"{masks['source']} (SHA-256 {masks['sha256'][:12]})."
    )


def _notes(
    columns: Sequence[_Column], with_paper: bool, paper_table: str | None = None
) -> tuple[str, ...]:
    """What was scored, and how far the paper's rows can be compared."""
    runs = {column.data_set: column.run for column in columns}
    notes = [scored_pictures(data_set, run) for data_set, run in runs.items()]
    limits = {
        sets[column.bin_name]["note"]
        for column in columns
        for sets in column.run.get("distribution", {}).values()
        if column.bin_name in sets
    }
    notes += [f"FID, P-IDS and U-IDS: {limit}." for limit in sorted(limits) if limit]
    if not with_paper:
        return tuple(notes)
    notes.append(
        "Rows marked (paper) are copied from the paper and do not count for bold. Its masks are "
        "not published, nor whether it scored composites, so compare with care."
    )
    sizes = sorted({column.run["image_size"] for column in columns} - {_PAPER_SIZE})
    if sizes:
        shown = ", ".join(f"{size} px" for size in sizes)
        notes.append(f"The paper scored pictures of {_PAPER_SIZE} px, ours have {shown}.")
    data_sets = {column.data_set for column in columns}
    reasons: dict[str, list[str]] = {}
    for note in published.CONTRADICTIONS:
        if note.table == paper_table and note.data_set in data_sets:
            cells = f"{note.method}, {note.data_set}, {', '.join(note.bins)}"
            reasons.setdefault(note.reason, []).append(cells)
    notes += [f"† {'; '.join(cells)}: {reason}." for reason, cells in reasons.items()]
    return tuple(notes)


def _undefined(
    columns: Sequence[tuple[_Column, Sequence[str]]],
    definitions: Mapping[str, Definition],
    image_kind: str = "composite",
) -> tuple[str, ...]:
    """Says how many scores of the table are undefined and therefore left out of a mean."""
    found: dict[str, tuple[int, int]] = {}
    for column, methods in columns:
        for method in methods:
            scores = column.run["methods"].get(method, {}).get(image_kind, {})
            for metric, score in scores.get(column.bin_name, {}).items():
                label = f"{definitions[metric].label} of {method}"
                missing, total = found.get(label, (0, 0))
                count = score["count"] + score["undefined"]
                found[label] = missing + score["undefined"], total + count
    items = [f"{label}: {some} of {total}" for label, (some, total) in found.items() if some]
    return (f"Undefined and left out of the means: {'; '.join(items)}.",) if items else ()
