"""The paper's ablation, Table IV: four variants with the same seed, data, steps and memory."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from gmsrm_jax.checkpoints.store import checkpoint_folder, open_finished
from gmsrm_jax.evaluation.evaluate import EXAMPLES_FILE, METRICS_FILE
from gmsrm_jax.evaluation.examples import read_examples
from gmsrm_jax.evaluation.paper_tables import Parameters
from gmsrm_jax.evaluation.rows import METHODS
from gmsrm_jax.evaluation.run import NotScored
from gmsrm_jax.evaluation.table_formats import to_text
from gmsrm_jax.methods.gm_srm.network import split_frozen
from gmsrm_jax.methods.gm_srm.variants import VARIANTS
from gmsrm_jax.methods.network_weights import weight_shapes
from gmsrm_jax.report.charts import Curve, curves_from_log
from gmsrm_jax.report.paper_report import write_ablation, write_seeds
from gmsrm_jax.report.report import write_report
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import format_seconds, read_log, say
from gmsrm_jax.training.run import train

_SHARED = "shared_memory"
_EVALUATION = "evaluation"
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
        UserError: see `experiment.train`; there must be a test set, and rows with noise; or the
            folder is one of `ablate_seeds`.
        NotScored: after everything else is done, weights of a perceptual measure are missing.
    """
    if not (config.data.test or config.data.test_fraction):
        raise UserError("an ablation needs test pictures; set data.test or data.test_fraction")
    if config.inpainting.begin_from:
        raise UserError(
            f"inpainting.begin_from = {config.inpainting.begin_from!r} brings a memory, and an "
            "ablation trains its own; set it to ''"
        )
    if config.evaluation.noise == "mean":
        raise UserError(
            "evaluation.noise = 'mean' leaves out the variants' rows of Table IV; set it to "
            "'sampled', or to 'both' for a row of each"
        )
    if next(workdir.glob(f"seed_*/{_SHARED}"), None):
        raise UserError(
            f"{workdir} holds an ablation of several seeds; give --seeds to go on with it, or use "
            "another --workdir"
        )
    lacking: NotScored | None = None
    whole = _changed(config, variant="gm_srm")
    train(whole, workdir / _SHARED, "memory", False, command)
    examples, curves = [], []
    facts: dict[str, Any] = {"seed": config.seed, "picture size": f"{config.image_size} px"}
    for name, parts in VARIANTS.items():
        say(f"ablation: {METHODS[name]}")
        shared = workdir / _SHARED if parts.memory else None
        own = _changed(config, variant=name)
        try:
            train(own, workdir / name, "inpainting", False, command, shared)
        except NotScored as error:  # the other variants can be trained and scored all the same
            lacking = error
        examples.append(read_examples(workdir / name / _EVALUATION / EXAMPLES_FILE))
        lines = read_log(workdir / name / "inpainting" / "log.jsonl")
        curves += _validation_curve(METHODS[name], lines)
        seconds = format_seconds(lines[-1]["seconds"]) if lines else "?"
        steps = _steps(workdir / name, "inpainting")
        facts[METHODS[name]] = f"{steps:,} steps of stage 2, {seconds} of training"
    settings = config.evaluation
    paper = write_ablation(
        workdir,
        _metrics(workdir),
        examples,
        settings.dataset,
        parameters=_parameters(config),
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


def ablate_seeds(
    config: ConfigDict, workdir: pathlib.Path, seeds: Sequence[int], command: str
) -> pathlib.Path:
    """Does the whole ablation with one seed after the other, and writes Table IV over all of them.

    Each seed's ablation is one of `ablate`, in seed_0, seed_1 and so on. The seed is the training's
    alone: masks and noise of all evaluations are those of evaluation.seed.

    Args:
        config: the run's config; its variant and seed play no part.
        workdir: folder of everything; the table is in its table_4.md, .tex, .html and .json.
        seeds: at least two, all different.
        command: see `ablate`.

    Returns:
        The table's HTML file.

    Raises:
        UserError: see `ablate`; or the folder is one of `ablate`.
        NotScored: see `ablate`.
    """
    if (workdir / _SHARED).exists():
        raise UserError(
            f"{workdir} holds an ablation of one seed; leave out --seeds to go on with it, or use "
            "another --workdir"
        )
    lacking: NotScored | None = None
    for seed in seeds:
        say(f"ablation: seed {seed}")
        try:
            ablate(_changed(config, seed=seed), workdir / f"seed_{seed}", command)
        except NotScored as error:  # as in `ablate`
            lacking = error
    first = workdir / f"seed_{seeds[0]}"
    table = write_seeds(
        workdir,
        {seed: _metrics(workdir / f"seed_{seed}") for seed in seeds},
        config.evaluation.dataset,
        parameters=_parameters(config),
        training=(
            f"{_steps(first / _SHARED, 'memory'):,} steps of {config.memory.batch_size} pictures "
            f"in stage 1 (not for Base), {_steps(first / 'gm_srm', 'inpainting'):,} steps of "
            f"{config.batch_size} pictures in stage 2"
        ),
        command=command,
    )
    say(to_text(table))
    page = workdir / "table_4.html"
    say(f"table: {page}")
    if lacking:
        raise lacking
    return page


def _changed(config: ConfigDict, **values: Any) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.update(values)
    return changed


def _metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The content of each variant's metrics.json."""
    files = [workdir / name / _EVALUATION / METRICS_FILE for name in VARIANTS]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _parameters(config: ConfigDict) -> dict[str, Parameters]:
    """Of the network of each variant; nothing is computed."""
    found = {}
    for name in VARIANTS:
        shapes = weight_shapes(_changed(config, variant=name))
        parts = split_frozen(shapes, config.inpainting.train_noise_strength)
        counts = [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in parts]
        found[METHODS[name]] = Parameters(*counts)
    return found


def _validation_curve(method: str, lines: list[dict[str, float]]) -> list[Curve]:
    return [curve for curve in curves_from_log(method, lines) if curve.tag == _CURVE]


def _steps(workdir: pathlib.Path, stage: str) -> int:
    checkpoints, step = open_finished(checkpoint_folder(workdir, stage), "train first")
    checkpoints.finish()
    return step
