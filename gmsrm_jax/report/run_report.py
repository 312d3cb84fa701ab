"""The report of a run: its scores, the paper's tables and figures, its curves and pictures."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gmsrm_jax.evaluation.evaluate import EXAMPLES_FILE
from gmsrm_jax.evaluation.examples import read_examples
from gmsrm_jax.evaluation.verdicts import best_line, gain_line
from gmsrm_jax.methods import METHODS
from gmsrm_jax.report.charts import Curve, curves_from_log
from gmsrm_jax.report.paper_report import write_outputs
from gmsrm_jax.report.pictures import Picture, not_filled, panel_rows
from gmsrm_jax.report.report import write_report
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.log import format_seconds, read_log, say


def report_run(
    config: ConfigDict,
    workdir: pathlib.Path | None,
    output: pathlib.Path,
    page: pathlib.Path,
    metrics: dict[str, Any],
    command: str,
) -> None:
    """Writes the paper's tables and figures, and a page with them, curves and pictures.

    Says which row fills best, and of a training that began with trained weights whether it helped.

    Args:
        config: the run's config.
        workdir: of the training; None of a network that comes without one.
        output: folder of the evaluation, where tables and figures go.
        page: the report's file.
        metrics: what metrics.json of that folder holds.
        command: what to type to do it again.
    """
    method = METHODS[config.method]
    stages = [] if workdir is None else [workdir / s.name for s in method.stages_of(config)]
    step, sha256 = (metrics["facts"][name] for name in ("checkpoint_step", "weights_sha256"))
    source = metrics["facts"]["checkpoint"] if step is None else f"step {step:,}"
    lengths, curves = _trained(stages)
    facts: dict[str, Any] = {
        "method": method.row(config).title,
        "picture size": f"{config.image_size} px",
        "test pictures": metrics["pictures"],
        "weights": f"{source}, SHA-256 {sha256[:16]}…",
        "devices": f"{metrics['run']['devices']} × {metrics['run']['device']}",
        **lengths,
    }
    verdicts = [line for line in (best_line(metrics), gain_line(output, metrics)) if line]
    figures = [figure for stage in stages[:-1] for figure in _panels(stage)]
    examples = read_examples(output / EXAMPLES_FILE)
    settings = config.evaluation
    paper = write_outputs(
        output,
        metrics,
        examples,
        settings.dataset,
        pictures=settings.figure_pictures,
        seed=settings.seed,
        notes=(method.note,) if method.note else (),
    )
    write_report(
        page,
        title=f"{method.title}, {config.name}",
        command=command,
        facts=facts,
        verdicts=verdicts,
        metrics=metrics,
        paper=paper,
        panels=panel_rows(
            examples, next(iter(metrics["methods"])), not_filled(metrics), settings.panel_rows
        ),
        curves=curves,
        figures=figures,
        config=config.to_dict(),
    )
    say(f"report: {page}")
    for line in verdicts:
        say(line)


def _trained(stages: Sequence[pathlib.Path]) -> tuple[dict[str, str], list[Curve]]:
    """How long each stage was trained, in words, and what it logged."""
    lengths: dict[str, str] = {}
    curves: list[Curve] = []
    for stage in stages:
        lines = read_log(stage / "log.jsonl")
        if lines:
            curves += curves_from_log(stage.name, lines)
            last = lines[-1]
            lengths[f"{stage.name} stage"] = (
                f"{count_of(last['step'], 'step', ',')}, "
                f"{count_of(last['images'], 'picture', ',')}, "
                f"{format_seconds(last['seconds'])} of training"
            )
    return lengths, curves


def _panels(stage: pathlib.Path) -> list[Picture]:
    """The newest of each kind of picture that a stage made of itself."""
    newest: dict[str, pathlib.Path] = {}
    for path in sorted((stage / "panels").glob("*_*.png")):
        newest[path.stem.rpartition("_")[0]] = path
    return [
        Picture(
            f"{stage.name}: {kind.replace('_', ' ')}",
            np.asarray(Image.open(path).convert("RGB")),
            f"a grid of pictures from the last validation of the stage {stage.name}",
        )
        for kind, path in newest.items()
    ]
