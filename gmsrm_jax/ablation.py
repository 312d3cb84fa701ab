"""The paper's ablation, Table IV: four variants with the same seed, data, steps and memory."""

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.checkpoints import checkpoint_folder, open_finished
from gmsrm_jax.contenders import METHODS
from gmsrm_jax.errors import UserError
from gmsrm_jax.evaluation.evaluate import EXAMPLES_FILE, METRICS_FILE
from gmsrm_jax.evaluation.examples import read_examples
from gmsrm_jax.experiment import train
from gmsrm_jax.report.charts import Curve, curves_from_log
from gmsrm_jax.report.paper_report import write_ablation
from gmsrm_jax.report.report import write_report
from gmsrm_jax.run_log import format_seconds, read_log, say
from gmsrm_jax.scoring import NotScored
from gmsrm_jax.variants import VARIANTS

_SHARED = "shared_memory"
_CURVE = "validation/psnr"


def ablate(config: ConfigDict, workdir: pathlib.Path, command: str) -> pathlib.Path:
    """Trains and evaluates every variant, and writes Table IV, Figure 10 and a report.

    Stage 1 is trained once, in `shared_memory`; each variant has a workdir of its own name. What is
    finished is not done again, so that the same call after an interruption goes on.

    Args:
        config: the run's config; its variant plays no part.
        workdir: folder of everything.
        command: what to type to do it again, for the report.

    Returns:
        The report.

    Raises:
        UserError: see `experiment.train`; there must be a test set, and rows with noise.
        NotScored: after everything else is done, weights of a perceptual measure are missing.
    """
    if not (config.data.test or config.data.test_fraction):
        raise UserError("an ablation needs test pictures; set data.test or data.test_fraction")
    if config.evaluation.noise == "mean":
        raise UserError(
            "evaluation.noise = 'mean' leaves out the variants' rows of Table IV; set it to "
            "'sampled', or to 'both' for a row of each"
        )
    lacking: NotScored | None = None
    whole = _variant(config, "gm_srm")
    train(whole, workdir / _SHARED, "memory", False, command)
    metrics: list[dict[str, Any]] = []
    examples, curves = [], []
    facts: dict[str, Any] = {"seed": config.seed, "picture size": f"{config.image_size} px"}
    for name, parts in VARIANTS.items():
        say(f"ablation: {METHODS[name]}")
        shared = workdir / _SHARED if parts.memory else None
        try:
            train(_variant(config, name), workdir / name, "inpainting", False, command, shared)
        except NotScored as error:  # the other variants can be trained and scored all the same
            lacking = error
        folder = workdir / name / "evaluation"
        metrics.append(json.loads((folder / METRICS_FILE).read_text(encoding="utf-8")))
        examples.append(read_examples(folder / EXAMPLES_FILE))
        lines = read_log(workdir / name / "inpainting" / "log.jsonl")
        curves += _validation_curve(METHODS[name], lines)
        facts[METHODS[name]] = _length(workdir / name, lines)
    settings = config.evaluation
    paper = write_ablation(
        workdir,
        metrics,
        examples,
        settings.dataset,
        pictures=settings.figure_pictures,
        seed=settings.seed,
    )
    report = workdir / "report.html"
    write_report(
        report,
        title=f"Ablation of GM-SRM, {config.name}",
        command=command,
        facts=facts,
        paper=paper,
        curves=curves,
        config=config.to_dict(),
    )
    say(f"report: {report}")
    if lacking:
        raise lacking
    return report


def _variant(config: ConfigDict, name: str) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.variant = name
    return changed


def _validation_curve(method: str, lines: list[dict[str, float]]) -> list[Curve]:
    return [curve for curve in curves_from_log(method, lines) if curve.tag == _CURVE]


def _length(workdir: pathlib.Path, lines: list[dict[str, float]]) -> str:
    checkpoints, step = open_finished(checkpoint_folder(workdir, "inpainting"), "train first")
    checkpoints.finish()
    seconds = format_seconds(lines[-1]["seconds"]) if lines else "?"
    return f"{step:,} steps of stage 2, {seconds} of training"
