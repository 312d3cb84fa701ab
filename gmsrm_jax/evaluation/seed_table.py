"""Table IV over several trainings that differ in their seed: mean and spread of each score."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gmsrm_jax.evaluation import published
from gmsrm_jax.evaluation.labels import score_text
from gmsrm_jax.evaluation.paper_tables import (
    Metrics,
    Parameters,
    ablation_table,
    mean_score,
    our_cells,
)
from gmsrm_jax.evaluation.table_formats import Cell, Table
from gmsrm_jax.metrics import Definition
from gmsrm_jax.runtime.errors import UserError


def seeds_table(
    data_set: str,
    runs: Mapping[int, Sequence[Metrics]],
    parameters: Mapping[str, Parameters],
    training: str,
    command: str,
) -> tuple[Table, dict[str, Any]]:
    """Table IV with "mean ± sample standard deviation" in each cell, and all numbers behind it.

    The deviation of n seeds is sqrt(Σ(x - mean)² / (n - 1)). A score that is undefined for a seed
    has no mean.

    Args:
        data_set: see `ablation_table`.
        runs: for each of at least two seeds, evaluations of one variant each.
        parameters: see `ablation_table`.
        training: how long each variant was trained, for the caption.
        command: what to type to do it again.

    Returns:
        The table, and JSON values: mean, deviation and the single scores of each variant and
        metric, with seeds, parameters, masks, pictures and command.

    Raises:
        UserError: see `ablation_table`; or the masks differ between the seeds.
    """
    tables = {seed: ablation_table(data_set, own, parameters) for seed, own in runs.items()}
    _check_masks(data_set, runs)
    seeds, some = list(runs), next(iter(runs.values()))[0]
    first = tables[seeds[0]]
    ours = [row.label for row in first.groups[0].rows if not row.published]
    metrics = first.groups[0].metrics
    definitions = _definitions(runs)
    scores = {
        variant: {
            metric: _spread({seed: _score(own, variant, metric) for seed, own in runs.items()})
            for metric in metrics
        }
        for variant in ours
    }
    columns = []
    for metric in metrics:
        found = [scores[variant][metric] for variant in ours]
        means = [score["mean"] for score in found]
        cells = our_cells(metric, definitions[metric], means, paper_digits=False)
        columns.append(
            [
                _with_deviation(cell, metric, definitions[metric], score["deviation"])
                for cell, score in zip(cells, found, strict=True)
            ]
        )
    # Before the metrics' cells of a row stand those of the parameters, the same for all seeds.
    averaged = dict(zip(ours, zip(*columns, strict=True), strict=True))
    rows = tuple(
        row
        if row.published
        else replace(row, cells=row.cells[: -len(metrics)] + averaged[row.label])
        for row in first.groups[0].rows
    )
    table = replace(
        first,
        caption=f"{first.caption} Mean ± sample standard deviation over {len(seeds)} trainings of "
        f"each variant, with the seeds {_joined(seeds)}: {training}. All were scored on the same "
        f"{some['pictures']} pictures with the same masks.",
        groups=(replace(first.groups[0], rows=rows),),
        notes=_notes(tables),
        command=command,
    )
    facts = {
        "seeds": seeds,
        "training": training,
        "command": command,
        "data_set": data_set,
        "bin": published.ABLATION_BIN,
        "pictures": some["pictures"],
        "image_size": some["image_size"],
        "mask_list_sha256": some["mask_list"]["sha256"],
        "deviation": "sample standard deviation, with n - 1",
        "variants": {
            variant: {"parameters": parameters[variant]._asdict(), "scores": scores[variant]}
            for variant in ours
        },
    }
    return table, facts


def _check_masks(data_set: str, runs: Mapping[int, Sequence[Metrics]]) -> None:
    lists = {own[0]["mask_list"]["sha256"][:12]: seed for seed, own in runs.items()}
    if len(lists) > 1:
        raise UserError(
            f"Table IV of {data_set}: the seeds were scored with different mask lists "
            f"({', '.join(f'{found} for {seed}' for found, seed in lists.items())}); run the "
            "ablation again, with one evaluation.masks"
        )


def _definitions(runs: Mapping[int, Sequence[Metrics]]) -> dict[str, Definition]:
    return {
        metric: Definition(**item)
        for own in runs.values()
        for run in own
        for metric, item in run["definitions"].items()
    }


def _score(runs: Sequence[Metrics], variant: str, metric: str) -> float | None:
    run = next((run for run in runs if variant in run["methods"]), None)
    return None if run is None else mean_score(run, variant, published.ABLATION_BIN, metric)


def _spread(values: Mapping[int, float | None]) -> dict[str, Any]:
    """Mean, deviation and the single values by seed, which are text in JSON."""
    defined = [value for value in values.values() if value is not None]
    whole = len(defined) == len(values)
    return {
        "mean": statistics.mean(defined) if whole else None,
        "deviation": statistics.stdev(defined) if whole else None,
        "values": {str(seed): value for seed, value in values.items()},
    }


def _with_deviation(
    cell: Cell, metric: str, definition: Definition, deviation: float | None
) -> Cell:
    if deviation is None:
        return cell
    return replace(cell, text=f"{cell.text} ± {score_text(metric, definition, deviation)}")


def _joined(seeds: Sequence[int]) -> str:
    *others, last = map(str, seeds)
    return f"{', '.join(others)} and {last}"


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
