"""Several rows trained and scored alike: the variants of a method, as in the paper's Table IV."""

import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from gmsrm_jax.checkpoints.store import checkpoint_folder, open_finished
from gmsrm_jax.commands.scoring import NotScored, evaluate_and_report
from gmsrm_jax.data.splits import has_test_pictures
from gmsrm_jax.evaluation.evaluate import EXAMPLES_FILE, METRICS_FILE
from gmsrm_jax.evaluation.examples import read_examples
from gmsrm_jax.evaluation.paper_tables import Parameters
from gmsrm_jax.evaluation.run import check_evaluation
from gmsrm_jax.evaluation.table_formats import to_text
from gmsrm_jax.methods import METHODS, Method
from gmsrm_jax.methods.variables import count_parameters, variable_shapes
from gmsrm_jax.report.charts import Curve, curves_from_log
from gmsrm_jax.report.paper_report import write_ablation, write_seeds
from gmsrm_jax.report.report import write_report
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import format_seconds, read_log, say
from gmsrm_jax.training.run import train

_SHARED = "shared"  # folder of the stages that all variants have in common
_EVALUATION = "evaluation"
_CURVE = "validation/psnr"


def compare(config: ConfigDict, workdir: pathlib.Path, command: str) -> pathlib.Path:
    """Trains and evaluates every variant of a method; writes Table IV, Figure 10 and a report.

    The stages that variants share are trained once, in `shared`; each variant has a workdir of its
    own name. What is finished is not done again; the same call after an interruption goes on.

    Args:
        config: the run's config; its variant plays no part.
        workdir: folder of everything.
        command: what to type to do it again, for the report.

    Returns:
        The report.

    Raises:
        UserError: see `training.run.train`; the method must have variants, a test set, and rows
            with noise; or the folder is one of `compare_seeds`.
        NotScored: after everything else is done, weights of a perceptual measure are missing.
    """
    method = METHODS[config.method]
    _check(config, method)
    if next(workdir.glob(f"seed_*/{_SHARED}"), None):
        raise UserError(
            f"{workdir} holds a comparison of several seeds; give --seeds to go on with it, or use "
            "another --workdir"
        )
    lacking: NotScored | None = None
    whole = _whole(config, method)
    shared = {spec.name: workdir / _SHARED for spec in method.stages_of(whole) if spec.shared}
    for stage, folder in shared.items():
        train(whole, folder, stage=stage)
    examples, curves = [], []
    facts: dict[str, Any] = {"seed": config.seed, "picture size": f"{config.image_size} px"}
    for name, row in method.variants.items():
        say(f"comparison: {row.title}")
        own = _changed(config, variant=name)
        last = method.last_stage(own)
        try:
            train(
                own,
                workdir / name,
                earlier=shared,
                check=functools.partial(check_evaluation, own),
            )
            evaluate_and_report(own, workdir / name, command)
        except NotScored as error:  # the other variants can be trained and scored all the same
            lacking = error
        examples.append(read_examples(workdir / name / _EVALUATION / EXAMPLES_FILE))
        lines = read_log(workdir / name / last / "log.jsonl")
        curves += _validation_curve(row.title, lines)
        seconds = format_seconds(lines[-1]["seconds"]) if lines else "?"
        steps = _steps(workdir / name, last)
        facts[row.title] = f"{steps:,} steps of the stage {last}, {seconds} of training"
    settings = config.evaluation
    paper = write_ablation(
        workdir,
        _metrics(workdir, method),
        examples,
        settings.dataset,
        parameters=_parameters(config, method),
        pictures=settings.figure_pictures,
        seed=settings.seed,
    )
    report = workdir / "report.html"
    write_report(
        report,
        title=f"Variants of {method.title}, {config.name}",
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


def _check(config: ConfigDict, method: Method) -> None:
    """Checks that the variants can be compared.

    Raises:
        UserError: there are none, or a field does not allow it.
    """
    if not method.variants:
        raise UserError(f"the method {method.name} has no variants to compare")
    if not has_test_pictures(config):
        raise UserError("a comparison needs test pictures; set data.test or data.test_fraction")
    begin = method.begins_from(config)
    if begin is not None:
        raise UserError(
            f"{begin.begin_from_field} = {begin.begin_from!r} brings trained weights, and a "
            "comparison trains its own; set it to ''"
        )
    if config.evaluation.noise == "mean":
        raise UserError(
            "evaluation.noise = 'mean' leaves out the variants' rows of Table IV; set it to "
            "'sampled', or to 'both' for a row of each"
        )


def _whole(config: ConfigDict, method: Method) -> ConfigDict:
    """The config of the variant with the most stages, whose shared ones the others need."""
    own = [_changed(config, variant=name) for name in method.variants]
    return max(own, key=lambda each: len(method.stages_of(each)))


def compare_seeds(
    config: ConfigDict, workdir: pathlib.Path, seeds: Sequence[int], command: str
) -> pathlib.Path:
    """Compares with one seed after the other, and writes Table IV over all of them.

    Each seed's comparison is one of `compare`, in seed_0, seed_1 and so on. The seed is that of the
    training alone: masks and noise of all evaluations are those of evaluation.seed.

    Args:
        config: the run's config; its variant and seed play no part.
        workdir: folder of everything; the table is in its table_4.md, .tex, .html and .json.
        seeds: at least two, all different.
        command: see `compare`.

    Returns:
        The table's HTML file.

    Raises:
        UserError: see `compare`; or the folder is one of `compare`.
        NotScored: see `compare`.
    """
    if (workdir / _SHARED).exists():
        raise UserError(
            f"{workdir} holds a comparison of one seed; leave out --seeds to go on with it, or use "
            "another --workdir"
        )
    lacking: NotScored | None = None
    for seed in seeds:
        say(f"comparison: seed {seed}")
        try:
            compare(_changed(config, seed=seed), workdir / f"seed_{seed}", command)
        except NotScored as error:  # as in `compare`
            lacking = error
    method = METHODS[config.method]
    table = write_seeds(
        workdir,
        {seed: _metrics(workdir / f"seed_{seed}", method) for seed in seeds},
        config.evaluation.dataset,
        parameters=_parameters(config, method),
        training=_lengths(config, method, workdir / f"seed_{seeds[0]}"),
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


def _metrics(workdir: pathlib.Path, method: Method) -> list[dict[str, Any]]:
    """The content of each variant's metrics.json."""
    files = [workdir / name / _EVALUATION / METRICS_FILE for name in method.variants]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _parameters(config: ConfigDict, method: Method) -> dict[str, Parameters]:
    """Of the networks of each variant; nothing is computed."""
    found = {}
    for name, row in method.variants.items():
        own = _changed(config, variant=name)
        counts = count_parameters(method, own, variable_shapes(method, own))
        found[row.title] = Parameters(*counts)
    return found


def _validation_curve(row: str, lines: list[dict[str, float]]) -> list[Curve]:
    return [curve for curve in curves_from_log(row, lines) if curve.tag == _CURVE]


def _lengths(config: ConfigDict, method: Method, workdir: pathlib.Path) -> str:
    """How long each stage was trained, in words."""
    whole = _whole(config, method)
    lengths = [
        (spec.name, _steps(workdir / (_SHARED if spec.shared else whole.variant), spec.name))
        for spec in method.stages_of(whole)
    ]
    return ", ".join(f"{steps:,} steps of the stage {name}" for name, steps in lengths)


def _steps(workdir: pathlib.Path, stage: str) -> int:
    checkpoints, step = open_finished(checkpoint_folder(workdir, stage), "train first")
    checkpoints.finish()
    return step
