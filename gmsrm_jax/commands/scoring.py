"""Scores with their report, as training, `gmsrm evaluate` and `gmsrm compare` end with them."""

import pathlib
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.shares import Join, Share

if TYPE_CHECKING:
    from gmsrm_jax.networks.folder import Pretrained


class NotScored(UserError):
    """Measures whose weights are missing; everything else is scored and written."""


def evaluate_and_report(
    config: ConfigDict,
    source: "pathlib.Path | Pretrained",
    command: str,
    output: pathlib.Path | None = None,
    step: int | None = None,
    share: Share | Join | None = None,
) -> None:
    """Scores a checkpoint of a workdir or a trained network, and writes tables, figures, a report.

    With several processes all of them call this; each scores a share, and process 0 writes.

    Args:
        config: the run's config; of a network its own, with the test set and what is scored.
        source: a folder that `train` filled, or a network.
        command: what to type to do it again, for the report.
        output: where to write; None for `evaluation` and `report.html` in the workdir, or of a
            network for evaluation/NAME.
        step: of the checkpoint; None for the newest.
        share: do only this one, of which nothing is written but its scores, or join those that were
            scored; None: all.

    Raises:
        UserError: there is no checkpoint, or no test set, or a share to be joined is not finished.
        NotScored: after all else is written, a measure was left out because its weights are
            missing.
    """
    from gmsrm_jax.evaluation.run import evaluate_run
    from gmsrm_jax.report.run_report import report_run

    workdir = source if isinstance(source, pathlib.Path) else None
    place = output or workdir or pathlib.Path("evaluation", config.name)
    folder = place / "evaluation" if place is workdir else place
    metrics = evaluate_run(config, source, folder, step, share)
    if not metrics:
        return
    report_run(config, workdir, folder, place / "report.html", metrics, command)
    lacking = metrics["facts"]["not_scored"]
    if lacking:
        raise NotScored("; ".join(f"{name} was not scored: {why}" for name, why in lacking.items()))
