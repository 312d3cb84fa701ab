"""One self-contained HTML file about a run: scores, pictures, curves, definitions, config."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gmsrm_jax.config.fields import flatten
from gmsrm_jax.evaluation import published
from gmsrm_jax.evaluation.paper_tables import UNNAMED, full_table
from gmsrm_jax.evaluation.tables import Table
from gmsrm_jax.report.charts import Curve
from gmsrm_jax.report.pages import render
from gmsrm_jax.report.paper_report import PaperOutputs
from gmsrm_jax.report.pictures import PanelRow, Picture
from gmsrm_jax.runtime.files import write_atomically

_SHOWN_FIRST = ("loss", "validation")


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    command: str,
    facts: Mapping[str, Any],
    verdicts: Sequence[str] = (),
    metrics: Mapping[str, Any] | None = None,
    paper: PaperOutputs | None = None,
    panels: Sequence[PanelRow] = (),
    curves: Sequence[Curve] = (),
    figures: Sequence[Picture] = (),
    config: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report; parts that are not given are left out.

    Args:
        path: the HTML file.
        title: heading.
        command: what to type to do it again.
        facts: what was run, such as devices, steps and time; name to value.
        verdicts: what came out, a line each; they stand first.
        metrics: an evaluation's metrics, see `evaluate`.
        paper: tables and figures in the paper's layout, see `paper_report.write_outputs`; with
            them, the scores of every hole size are folded.
        panels: rows of filled pictures, see `panel_rows`.
        curves: logged quantities of the stages, see `curves_from_log`.
        figures: pictures by themselves, such as samples of the memory.
        config: every field of the run; nested mappings are shown with dotted names.
    """
    page = render(
        "report.html",
        title=title,
        command=command,
        facts=facts,
        verdicts=verdicts,
        metrics=metrics,
        paper=paper,
        paper_tables=[_divided(table) for table in paper.tables] if paper else [],
        scores=full_table(UNNAMED, metrics) if metrics else None,
        panels=panels,
        curves=_by_stage(curves),
        shown_first=_SHOWN_FIRST,
        figures=figures,
        config=None if config is None else flatten(config),
    )
    write_atomically(path, page)


def _divided(table: Table) -> tuple[Table, Table | None]:
    """The table with the paper's metrics, and one of what else was scored."""
    own = table.scores["measure"].isin(published.METRICS) | (table.scores["metric"] == "")
    further = None if own.all() else replace(table, scores=table.scores[~own])
    return replace(table, scores=table.scores[own]), further


def _by_stage(curves: Sequence[Curve]) -> dict[str, dict[str, list[Curve]]]:
    """Stage to group to the curves that can be drawn."""
    found: dict[str, dict[str, list[Curve]]] = {}
    for curve in curves:
        if np.isfinite(curve.values).any():
            found.setdefault(curve.stage, {}).setdefault(curve.group, []).append(curve)
    return found
