"""Table IV over several trainings that differ in their seed: mean and spread of each score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gmsrm_jax.evaluation import published
from gmsrm_jax.evaluation.paper_tables import Metrics, Parameters, ablation_table
from gmsrm_jax.evaluation.tables import UNDEFINED, Table, best, score_text
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
    definitions = {
        metric: Definition(**item)
        for own in runs.values()
        for run in own
        for metric, item in run["definitions"].items()
    }
    spreads = _spreads(tables)
    frame = first.scores.copy()
    for place, cell in enumerate(zip(frame["method"], frame["measure"], strict=True)):
        if cell in spreads:
            text = _text(cell[1], definitions[cell[1]], spreads[cell])
            frame.loc[frame.index[place], "text"] = text
    table = replace(
        first,
        caption=f"{first.caption} Mean ± sample standard deviation over {len(seeds)} trainings of "
        f"each variant, with the seeds {', '.join(map(str, seeds[:-1]))} and {seeds[-1]}: "
        f"{training}. All were scored on the same {some['pictures']} pictures with the same masks.",
        scores=frame.assign(best=best(frame, definitions)),
        notes=_notes(tables),
        command=command,
    )
    facts = {"seeds": seeds, "training": training, "command": command}
    return table, facts | _facts(data_set, some, spreads, parameters)


def _facts(
    data_set: str,
    run: Metrics,
    spreads: Mapping[tuple[str, str], Mapping[str, Any]],
    parameters: Mapping[str, Parameters],
) -> dict[str, Any]:
    """What was scored, and the numbers behind the table."""
    return {
        "data_set": data_set,
        "bin": published.ABLATION_BIN,
        "pictures": run["pictures"],
        "image_size": run["image_size"],
        "mask_list_sha256": run["mask_list"]["sha256"],
        "deviation": "sample standard deviation, with n - 1",
        "variants": {
            variant: {
                "parameters": parameters[variant]._asdict(),
                "scores": {m: spread for (v, m), spread in spreads.items() if v == variant},
            }
            for variant in dict.fromkeys(variant for variant, _ in spreads)
        },
    }


def _check_masks(data_set: str, runs: Mapping[int, Sequence[Metrics]]) -> None:
    lists = {own[0]["mask_list"]["sha256"][:12]: seed for seed, own in runs.items()}
    if len(lists) > 1:
        raise UserError(
            f"Table IV of {data_set}: the seeds were scored with different mask lists "
            f"({', '.join(f'{found} for {seed}' for found, seed in lists.items())}); run the "
            "ablation again, with one evaluation.masks"
        )


def _spreads(tables: Mapping[int, Table]) -> dict[tuple[str, str], dict[str, Any]]:
    """Mean, deviation and single values by seed of our scores, by variant and metric."""
    import pandas as pd

    scores = pd.concat({str(seed): table.scores for seed, table in tables.items()}, names=["seed"])
    ours = scores[(scores["measure"] != "") & ~scores["published"]].reset_index("seed")
    by_seed = ours.pivot(index=["method", "measure"], columns="seed", values="value")
    keys = list(dict.fromkeys(zip(ours["method"], ours["measure"], strict=True)))

    def json_value(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    return {
        key: {
            "mean": json_value(values.mean(skipna=False)),
            "deviation": json_value(values.std(skipna=False)),
            "values": {str(seed): json_value(values[str(seed)]) for seed in tables},
        }
        for key, values in ((key, by_seed.loc[key]) for key in keys)
    }


def _text(metric: str, definition: Definition, spread: Mapping[str, Any]) -> str:
    if spread["deviation"] is None:
        return UNDEFINED
    mean, deviation = (score_text(metric, definition, spread[k]) for k in ("mean", "deviation"))
    return f"{mean} ± {deviation}"


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
