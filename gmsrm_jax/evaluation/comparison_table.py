"""Rows that were trained alike in one table; and any table over several seeds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gmsrm_jax.evaluation.cost import Cost
from gmsrm_jax.evaluation.examples import Examples
from gmsrm_jax.evaluation.paper_tables import UNNAMED, Metrics, scored_pictures
from gmsrm_jax.evaluation.published import ABLATION_BIN, METRICS
from gmsrm_jax.evaluation.rows import UNTRAINED_ROW
from gmsrm_jax.evaluation.tables import (
    UNDEFINED,
    Score,
    Table,
    best,
    heading,
    score_text,
    tidy,
)
from gmsrm_jax.metrics import Definition
from gmsrm_jax.runtime.errors import UserError

_KEY = ["measure", "metric", "method", "published", "data_set", "column"]
_SHOWN = (*METRICS, "sharpness", "texture")  # those that were scored
# Head and form of what a row costs. Only the time can differ between seeds.
_COSTS = {
    "pictures": ("Training pictures", ",.0f"),
    "trained": ("Trained parameters", ",.0f"),
    "frozen": ("Frozen parameters", ",.0f"),
    "gflop": ("GFLOP", ",.3g"),
    "seconds": ("Seconds", ".4f"),
}
_VARIES = "seconds"
_NOTE = (
    "Training pictures are those that a row's own stages were shown, all together{shared}. "
    "Parameters are of what fills holes: moved by the last stage, or frozen. GFLOP and seconds are "
    "of one filling, by XLA's count and on {device}."
)


def joined_metrics(runs: Mapping[str, Metrics]) -> dict[str, Any]:
    """The evaluations of several rows as one, with each row once.

    The rows of untrained networks are left out; other baselines are those of the first evaluation.

    Args:
        runs: the content of each metrics.json, by the title of its row.

    Raises:
        UserError: they were scored on different masks.
    """
    first = next(iter(runs.values()))
    for title, run in runs.items():
        ours, theirs = (each["mask_list"]["sha256"][:12] for each in (first, run))
        if ours != theirs:
            raise UserError(
                f"{title} was scored with the mask list {theirs}, and {next(iter(runs))} with "
                f"{ours}; compare again, with one evaluation.masks"
            )
    joined = {**first, "methods": _joined(runs, "methods")}
    if "distribution" in first:
        joined["distribution"] = _joined(runs, "distribution")
    for name in ("samples", "sample_counts", "facts", "run"):
        joined.pop(name, None)
    return joined


def joined_examples(runs: Mapping[str, Examples]) -> Examples:
    """The pictures that several evaluations kept, as if one had filled them all.

    Args:
        runs: by the title of the row; see `joined_metrics`.

    Raises:
        UserError: they kept different ones.
    """
    first = next(iter(runs.values()))
    for title, run in runs.items():
        same = (run.pictures, run.bins) == (first.pictures, first.bins)
        if not (same and np.array_equal(run.mask, first.mask)):
            raise UserError(
                f"{title} kept other pictures than {next(iter(runs))}; evaluate both again with "
                "the same evaluation.figure_pictures and panel_rows"
            )
    methods = _order({title: run.methods for title, run in runs.items()})
    places = [(runs[owner], runs[owner].methods.index(name)) for name, owner in methods.items()]
    return dataclasses.replace(
        first,
        methods=tuple(methods),
        composite=np.stack([run.composite[place] for run, place in places]),
        raw=np.stack([run.raw[place] for run, place in places]),
    )


def comparison_table(
    data_set: str | None,
    metrics: Metrics,
    costs: Mapping[str, Cost],
    shared: str,
    notes: tuple[str, ...] = (),
) -> Table:
    """What each row costs, and its scores at a centre hole of 50 %, or else at the largest holes.

    Args:
        data_set: its name in tables.
        metrics: of `joined_metrics`.
        costs: by the row's title; other rows of the metrics have none.
        shared: how long stages were trained that rows have in common; "" if there are none.
        notes: further lines below the table.
    """
    definitions = {name: Definition(**item) for name, item in metrics["definitions"].items()}
    place, scores = data_set or UNNAMED, []
    bins = tuple(metrics["mask_list"]["bins"])  # of masks that belong to pictures, those that occur
    bin_name = ABLATION_BIN if ABLATION_BIN in bins else bins[-1]
    for method, kinds in metrics["methods"].items():
        for name, (head, _) in _COSTS.items():
            value = getattr(costs[method], name) if method in costs else None
            measure = name if name == _VARIES else ""
            scores.append(Score(measure, "", method, place, head, value))
        means = kinds["composite"][bin_name]
        for name in (name for name in _SHOWN if name in means):
            column = heading(definitions[name])
            scores.append(Score(name, "", method, place, column, means[name]["mean"]))
    frame = tidy(scores, definitions, paper_digits=True)
    forms = dict(_COSTS.values())
    frame["text"] = [
        format(value, forms[column]) if column in forms and text != UNDEFINED else text
        for value, column, text in zip(frame["value"], frame["column"], frame["text"], strict=True)
    ]
    device = " and ".join(sorted({cost.device for cost in costs.values()}))
    cost = _NOTE.format(device=device, shared=f", beside {shared}" if shared else "")
    *kind, size = bin_name.split()
    hole = " ".join([*kind, "holes of", size])
    return Table(
        name="table_comparison",
        title="Comparison",
        caption=f"What each row costs, and its scores for {hole} of the picture. ↑ higher is "
        "better, ↓ lower is better; bold: best of a column.",
        scores=frame,
        notes=(scored_pictures(place, metrics), cost, *notes),
    )


def spread_table(
    tables: Mapping[int, Table], definitions: Mapping[str, Definition], command: str
) -> tuple[Table, dict[str, Any]]:
    """A table with "mean ± sample standard deviation" in each cell of ours.

    The deviation of n seeds is sqrt(Σ(x - mean)² / (n - 1)). A score that is undefined for a seed
    has no mean.

    Args:
        tables: the same table of each of at least two seeds.
        definitions: of the measures.
        command: what to type to do it again.

    Returns:
        The table, and its numbers as JSON values: row to column to measure to mean, deviation and
        the values by seed.
    """
    seeds, first = list(tables), next(iter(tables.values()))
    if not all(table.scores[_KEY].equals(first.scores[_KEY]) for table in tables.values()):
        raise ValueError(f"{first.name} has other rows or columns for some seeds")
    values = {seed: table.scores["value"].to_numpy() for seed, table in tables.items()}
    numbers: dict[str, Any] = {}
    frame = first.scores.copy()
    texts = list(frame["text"])
    for place, cell in enumerate(frame.itertuples()):
        if cell.measure and not cell.published:
            spread = _spread({seed: float(values[seed][place]) for seed in seeds})
            numbers.setdefault(cell.method, {}).setdefault(cell.column, {})[cell.measure] = spread
            texts[place] = _text(cell.measure, definitions.get(cell.measure), spread)
    frame["text"] = texts
    table = dataclasses.replace(
        first,
        caption=f"{first.caption} Mean ± sample standard deviation over {len(seeds)} trainings of "
        f"each row, with the seeds {_listed(seeds)}.",
        scores=frame.assign(best=best(frame, definitions)),
        notes=_notes(tables),
        command=command,
    )
    return table, numbers


def _order(names: Mapping[str, Any]) -> dict[str, str]:
    """Every row of some evaluations, and the title of the evaluation that it is taken from.

    Trained rows come first, then what all of them have, without untrained networks.
    """
    common = set.intersection(*map(set, names.values())) if len(names) > 1 else set()
    first = next(iter(names))
    own = {
        name: title
        for title, found in names.items()
        for name in found
        if name not in common and name != UNTRAINED_ROW
    }
    return own | {name: first for name in names[first] if name in common - {UNTRAINED_ROW}}


def _joined(runs: Mapping[str, Metrics], part: str) -> dict[str, Any]:
    places = _order({title: run["methods"] for title, run in runs.items()})
    return {name: runs[owner][part][name] for name, owner in places.items()}


def _spread(values: Mapping[int, float]) -> dict[str, Any]:
    """Mean, deviation and the single values by seed, which are text in JSON."""
    numbers = np.array(list(values.values()))
    whole = bool(np.isfinite(numbers).all())
    return {
        "mean": float(numbers.mean()) if whole else None,
        "deviation": float(numbers.std(ddof=1)) if whole else None,
        "values": {str(seed): None if math.isnan(v) else v for seed, v in values.items()},
    }


def _text(measure: str, definition: Definition | None, spread: Mapping[str, Any]) -> str:
    mean, deviation = spread["mean"], spread["deviation"]
    if mean is None:
        return UNDEFINED
    if definition is None:
        return f"{mean:.4f} ± {deviation:.4f}"
    texts = [score_text(measure, definition, value) for value in (mean, deviation)]
    return " ± ".join(texts)


def _notes(tables: Mapping[int, Table]) -> tuple[str, ...]:
    """Notes of all seeds as they are, those of some with these, and one on few seeds."""
    notes = dict.fromkeys(note for table in tables.values() for note in table.notes)
    found = []
    for note in notes:
        seeds = [seed for seed, table in tables.items() if note in table.notes]
        some = f"Seed{'s' * (len(seeds) > 1)} {_listed(seeds)}: "
        found.append(note if len(seeds) == len(tables) else some + note)
    if len(tables) == 2:
        found.append(
            "Two seeds only: each deviation is the difference of the two scores divided by the "
            "root of 2, a rough guess of the spread."
        )
    return tuple(found)


def _listed(seeds: Sequence[int]) -> str:
    *others, last = map(str, seeds)
    return f"{', '.join(others)} and {last}" if others else last
