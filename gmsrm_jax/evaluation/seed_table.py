"""Table IV over several trainings that differ in their seed: mean and spread of each score."""

import math
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
    our_score,
    tidy,
)
from gmsrm_jax.evaluation.table_formats import Table
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
    definitions = _definitions(runs)
    by_seed = {seed: _means(table) for seed, table in tables.items()}
    records: list[dict[str, Any]] = []
    scores: dict[str, dict[str, Any]] = {}
    for row in first.scores.drop(columns="best").to_dict("records"):
        variant, metric = row["method"], row["measure"]
        own: dict[str, Any] = {"better": ""}
        if (variant, metric) in by_seed[seeds[0]]:
            spread = _spread(
                {seed: means.get((variant, metric)) for seed, means in by_seed.items()}
            )
            scores.setdefault(variant, {})[metric] = spread
            own = our_score(metric, definitions[metric], spread["mean"])
            if spread["deviation"] is not None:
                deviation = score_text(metric, definitions[metric], spread["deviation"])
                own["text"] += f" ± {deviation}"
        records.append(row | own)
    table = replace(
        first,
        caption=f"{first.caption} Mean ± sample standard deviation over {len(seeds)} trainings of "
        f"each variant, with the seeds {_joined(seeds)}: {training}. All were scored on the same "
        f"{some['pictures']} pictures with the same masks.",
        scores=tidy(records),
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
            for variant in scores
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


def _means(table: Table) -> dict[tuple[str, str], float | None]:
    """Our means of a table by variant and metric; None where undefined."""
    ours = table.scores[~table.scores["published"] & (table.scores["measure"] != "")]
    columns = (ours["method"], ours["measure"], ours["value"])
    return {
        (variant, metric): None if math.isnan(value) else value
        for variant, metric, value in zip(*columns, strict=True)
    }


def _spread(values: Mapping[int, float | None]) -> dict[str, Any]:
    """Mean, deviation and the single values by seed, which are text in JSON."""
    defined = [value for value in values.values() if value is not None]
    whole = len(defined) == len(values)
    return {
        "mean": statistics.mean(defined) if whole else None,
        "deviation": statistics.stdev(defined) if whole else None,
        "values": {str(seed): value for seed, value in values.items()},
    }


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
