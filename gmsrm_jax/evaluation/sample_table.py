"""Several samples of each hole: their mean, the best of them, and how much they differ."""

from collections.abc import Mapping
from typing import Any

from gmsrm_jax.evaluation.labels import heading
from gmsrm_jax.evaluation.paper_tables import Row, our_score, record, scored_pictures, tidy
from gmsrm_jax.evaluation.table_formats import Table
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
    records: list[dict[str, Any]] = []

    def add(group: str, metric: str, label: str, scores: Mapping[str, Any]) -> None:
        for name in bins:
            mean = scores[name].get(metric, {}).get("mean")
            own = our_score(metric, definitions[metric], mean) | {"better": ""}
            own |= {"metric": group, "data_set": data_set, "column": name}
            records.append(record(Row(label, label), **own))

    for metric, definition in definitions.items():
        for method, parts in run["samples"].items():
            shown = {f"{method}, the first": run["methods"][method]["composite"]}
            for part, label in _ROWS.items():
                name = label.format(k=run["sample_counts"][method])
                shown[f"{method}, {name}"] = parts[part]
            for label, scores in shown.items():
                if any(metric in scores[name] for name in bins):
                    add(heading(definition), metric, label, scores)
    apart = {
        metric
        for parts in run["samples"].values()
        for scores in parts[_APART].values()
        for metric in scores
    }
    for metric in (name for name in definitions if name in apart):
        for method, parts in run["samples"].items():
            add(f"{definitions[metric].label} between samples", metric, method, parts[_APART])
    meanings = [
        f"{label.format(k='k').capitalize()}: {run['sample_kinds'][part]}."
        for part, label in {**_ROWS, _APART: "between samples"}.items()
    ]
    return Table(
        name="table_samples",
        title="Several samples",
        caption="Several samples of each hole. ↑ higher is better, ↓ lower is better.",
        scores=tidy(records),
        notes=(scored_pictures(data_set, run), *meanings),
    )
