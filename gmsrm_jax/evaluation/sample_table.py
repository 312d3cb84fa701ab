"""Several samples of each hole: their mean, the best of them, and how much they differ."""

from collections.abc import Mapping
from typing import Any

from gmsrm_jax.evaluation.labels import heading, score_text
from gmsrm_jax.evaluation.paper_tables import scored_pictures
from gmsrm_jax.evaluation.table_formats import Cell, Group, Row, Table
from gmsrm_jax.metrics import Definition

_ROWS = {"samples_mean": "mean of {k}", "samples_best": "best of {k}"}
_APART = "samples_diversity"


def samples_table(data_set: str, run: Mapping[str, Any]) -> Table:
    """One table with the metrics as groups of rows and the bins as columns.

    Nothing is bold: the best of several samples is chosen with the truth at hand.

    Args:
        data_set: its name.
        run: the content of a metrics.json with "samples".
    """
    bins = list(run["mask_list"]["bins"])
    definitions = {name: Definition(**item) for name, item in run["definitions"].items()}
    groups = []
    for metric, definition in definitions.items():
        rows = []
        for method, parts in run["samples"].items():
            shown = {f"{method}, the first": run["methods"][method]["composite"]}
            for part, label in _ROWS.items():
                name = label.format(k=run["sample_counts"][method])
                shown[f"{method}, {name}"] = parts[part]
            rows += [
                _row(label, metric, definition, bins, scores)
                for label, scores in shown.items()
                if any(metric in scores[name] for name in bins)
            ]
        if rows:
            groups.append(Group(heading(definition), (metric,), tuple(rows)))
    apart = {
        metric
        for parts in run["samples"].values()
        for scores in parts[_APART].values()
        for metric in scores
    }
    for metric in (name for name in definitions if name in apart):
        definition = definitions[metric]
        rows = [
            _row(method, metric, definition, bins, parts[_APART])
            for method, parts in run["samples"].items()
        ]
        label = f"{definition.label} between samples"
        groups.append(Group(label, (f"{_APART}/{metric}",), tuple(rows)))
    meanings = [
        f"{label.format(k='k').capitalize()}: {run['sample_kinds'][part]}."
        for part, label in {**_ROWS, _APART: "between samples"}.items()
    ]
    return Table(
        name="table_samples",
        title="Several samples",
        caption="Several samples of each hole. ↑ higher is better, ↓ lower is better.",
        spans=((data_set, len(bins)),),
        columns=tuple(bins),
        priors=False,
        groups=tuple(groups),
        notes=(scored_pictures(data_set, run), *meanings),
    )


def _row(
    label: str,
    metric: str,
    definition: Definition,
    bins: list[str],
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> Row:
    means = [scores[name].get(metric, {}).get("mean") for name in bins]
    return Row(label, "", tuple(Cell(score_text(metric, definition, mean)) for mean in means))
