"""Scores with their report, as training, `gmsrm evaluate` and `gmsrm compare` end with them."""

import pathlib
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.shares import Share

if TYPE_CHECKING:
    from gmsrm_jax.networks.folder import Pretrained


class NotScored(UserError):
    """Measures whose weights are missing; everything else is scored and written."""


def evaluate_and_report(
    config: ConfigDict,
    workdir: pathlib.Path,
    command: str,
    output: pathlib.Path | None = None,
    step: int | None = None,
    share: Share | None = None,
    joined: int = 0,
) -> None:
    """Scores a checkpoint of a workdir, and writes tables, figures and a report.

    With several processes all of them call this; each scores a share, and process 0 writes.

    Args:
        config: the run's config.
        workdir: a folder that a training filled.
        command: what to type to do it again, for the report.
        output: where to write; None for `evaluation` and `report.html` in the workdir.
        step: of the checkpoint; None for the newest.
        share: only this one, of which nothing is written but its scores.
        joined: join so many shares that were scored; 0: score.

    Raises:
        UserError: there is no checkpoint, or no test set.
        NotScored: after everything else is scored and written, weights of a perceptual measure are
            missing.
    """
    from gmsrm_jax.evaluation.run import evaluate_run

    metrics = evaluate_run(config, workdir, output, step, share, joined)
    if metrics:
        page = (workdir if output is None else output) / "report.html"
        _report(config, workdir, output or workdir / "evaluation", page, metrics, command)


def evaluate_and_report_network(
    config: ConfigDict,
    network: "Pretrained",
    command: str,
    output: pathlib.Path,
    share: Share | None = None,
    joined: int = 0,
) -> None:
    """Scores a trained network that is no workdir, see `evaluate_and_report`.

    Args:
        config: of the network, with the test set and what is scored.
        network: what fills.
        command: what to type to do it again, for the report.
        output: where to write.
        share: see `evaluate_and_report`.
        joined: see `evaluate_and_report`.

    Raises:
        UserError: there is no test set.
        NotScored: see `evaluate_and_report`.
    """
    from gmsrm_jax.evaluation.run import evaluate_network

    metrics = evaluate_network(config, network, output, share, joined)
    if metrics:
        _report(config, None, output, output / "report.html", metrics, command)


def _report(
    config: ConfigDict,
    workdir: pathlib.Path | None,
    output: pathlib.Path,
    page: pathlib.Path,
    metrics: dict[str, Any],
    command: str,
) -> None:
    from gmsrm_jax.report.run_report import report_run

    report_run(config, workdir, output, page, metrics, command)
    lacking = metrics["facts"]["not_scored"]
    if lacking:
        raise NotScored("; ".join(f"{name} was not scored: {why}" for name, why in lacking.items()))
