"""Rows that were trained alike in one table; and any table over several seeds."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gmsrm_jax.evaluation.cost import Cost
from gmsrm_jax.evaluation.examples import Examples
from gmsrm_jax.evaluation.labels import UNDEFINED, heading, score_text
from gmsrm_jax.evaluation.paper_tables import (
    UNNAMED,
    Metrics,
    Row,
    mean_score,
    our_score,
    record,
    scored_pictures,
    tidy,
)
from gmsrm_jax.evaluation.published import ABLATION_BIN, METRICS
from gmsrm_jax.evaluation.rows import UNTRAINED_ROW
from gmsrm_jax.evaluation.table_formats import Table
from gmsrm_jax.metrics import DEFINITIONS, Definition
from gmsrm_jax.metrics.texture import SHARPNESS, TEXTURE, TEXTURE_DEFINITIONS
from gmsrm_jax.runtime.errors import UserError

_KEY = ["measure", "metric", "method", "published", "data_set", "column"]
# Head, whether a number can differ between seeds, and how it is printed.
_COSTS = {
    "pictures": ("Training pictures", False, ",d"),
    "trained": ("Trained parameters", False, ",d"),
    "frozen": ("Frozen parameters", False, ",d"),
    "gflop": ("GFLOP", False, ",.3g"),
    "seconds": ("Seconds", True, ".4f"),
}
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
    """What each row costs, and its scores at a centre hole of 50 %.

    Args:
        data_set: its name in tables.
        metrics: of `joined_metrics`.
        costs: by the row's title; other rows of the metrics have none.
        shared: how long stages were trained that rows have in common; "" if there are none.
        notes: further lines below the table.
    """
    known = DEFINITIONS | TEXTURE_DEFINITIONS
    scored = {m for kinds in metrics["methods"].values() for m in kinds["composite"][ABLATION_BIN]}
    measures = [name for name in (*METRICS, SHARPNESS, TEXTURE) if name in scored]
    place, records = data_set or UNNAMED, []
    for method in metrics["methods"]:
        row = Row(method, method)
        for name, (head, varies, form) in _COSTS.items():
            value = getattr(costs[method], name) if method in costs else None
            own: dict[str, Any] = {"text": UNDEFINED if value is None else format(value, form)}
            if varies and value is not None:
                own |= {"measure": name, "value": float(value)}
            records.append(record(row, data_set=place, column=head, **own))
        for name in measures:
            score = mean_score(metrics, method, ABLATION_BIN, name)
            own = our_score(name, known[name], score, paper_digits=True)
            records.append(record(row, data_set=place, column=heading(known[name]), **own))
    device = " and ".join(sorted({cost.device for cost in costs.values()}))
    cost = _NOTE.format(device=device, shared=f", beside {shared}" if shared else "")
    hole = ABLATION_BIN.replace("centre", "centre holes of")
    return Table(
        name="table_comparison",
        title="Comparison",
        caption=f"What each row costs, and its scores for {hole} of the picture. ↑ higher is "
        "better, ↓ lower is better; bold: best of a column.",
        scores=tidy(records),
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
    records = []
    for place, cell in enumerate(first.scores.drop(columns="best").to_dict("records")):
        own: dict[str, Any] = {"better": ""}
        measure = cell["measure"]
        if measure and not cell["published"]:
            spread = _spread({seed: float(values[seed][place]) for seed in seeds})
            column = numbers.setdefault(cell["method"], {}).setdefault(cell["column"], {})
            column[measure] = spread
            own = _spread_score(measure, definitions.get(measure), spread)
        records.append(cell | own)
    seen = f"{', '.join(map(str, seeds[:-1]))} and {seeds[-1]}"
    table = dataclasses.replace(
        first,
        caption=f"{first.caption} Mean ± sample standard deviation over {len(seeds)} trainings of "
        f"each row, with the seeds {seen}.",
        scores=tidy(records),
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


def _spread_score(
    measure: str, definition: Definition | None, spread: Mapping[str, Any]
) -> dict[str, Any]:
    """What mean and deviation add to a record; without a definition nothing is compared."""
    mean, deviation = spread["mean"], spread["deviation"]
    value = math.nan if mean is None else mean
    if definition is None:
        text = UNDEFINED if mean is None else f"{mean:.4f} ± {deviation:.4f}"
        return {"value": value, "text": text, "better": ""}
    own = our_score(measure, definition, mean)
    if deviation is not None:
        own["text"] += f" ± {score_text(measure, definition, deviation)}"
    return own


def _notes(tables: Mapping[int, Table]) -> tuple[str, ...]:
    """Notes of all seeds as they are, those of some with the seed, and one on few seeds."""
    notes = dict.fromkeys(note for table in tables.values() for note in table.notes)
    found = []
    for note in notes:
        seeds = [seed for seed, table in tables.items() if note in table.notes]
        found.append(note if len(seeds) == len(tables) else f"Seed {seeds[0]}: {note}")
    if len(tables) == 2:
        found.append(
            "Two seeds only: each deviation is the difference of the two scores divided by the "
            "root of 2, a rough guess of the spread."
        )
    return tuple(found)
