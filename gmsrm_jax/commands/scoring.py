"""Scores with their report, as training, `gmsrm evaluate` and `gmsrm compare` end with them."""

import pathlib

from ml_collections import ConfigDict

from gmsrm_jax.runtime.errors import UserError


class NotScored(UserError):
    """Measures whose weights are missing; everything else is scored and written."""


def evaluate_and_report(
    config: ConfigDict,
    workdir: pathlib.Path,
    command: str,
    output: pathlib.Path | None = None,
    step: int | None = None,
) -> None:
    """Scores a checkpoint of a workdir, and writes tables, figures and a report.

    With several processes all of them call this; process 0 scores and writes.

    Args:
        config: the run's config.
        workdir: a folder that a training filled.
        command: what to type to do it again, for the report.
        output: where to write; None for `evaluation` and `report.html` in the workdir.
        step: of the checkpoint; None for the newest.

    Raises:
        UserError: there is no checkpoint, or no test set.
        NotScored: after everything else is scored and written, weights of a perceptual measure are
            missing.
    """
    from gmsrm_jax.evaluation.run import evaluate_run
    from gmsrm_jax.report.run_report import report_run

    metrics = evaluate_run(config, workdir, output, step)
    if not metrics:
        return
    page = (workdir if output is None else output) / "report.html"
    report_run(config, workdir, output or workdir / "evaluation", page, metrics, command)
    lacking = metrics["facts"]["not_scored"]
    if lacking:
        raise NotScored("; ".join(f"{name} was not scored: {why}" for name, why in lacking.items()))
