"""From a trained workdir to scores, tables and a report."""

import dataclasses
import importlib
import json
import pathlib
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from gmsrm_jax.checkpoints.store import checkpoint_folder, open_finished
from gmsrm_jax.config.fields import UNTRAINED
from gmsrm_jax.config.of_run import check_config_of_run
from gmsrm_jax.data.masks.assignment import open_mask_list
from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.data.masks.list_file import MaskList, write_mask_list
from gmsrm_jax.data.masks.pairs import paired_masks
from gmsrm_jax.data.sources import EncodedPictures, Pictures
from gmsrm_jax.data.splits import open_test
from gmsrm_jax.evaluation.batches import EvaluationSet, evaluated_names, pictures_sha256
from gmsrm_jax.evaluation.evaluate import (
    EXAMPLES_FILE,
    METRICS_FILE,
    PER_IMAGE_FILE,
    evaluate,
    package_versions,
)
from gmsrm_jax.evaluation.examples import figure_examples
from gmsrm_jax.evaluation.measures import Judge
from gmsrm_jax.evaluation.paper_tables import UNNAMED, full_table
from gmsrm_jax.evaluation.predictions import Predictions, export_inputs
from gmsrm_jax.evaluation.rows import open_judge, open_methods, open_predictions
from gmsrm_jax.evaluation.table_formats import to_text
from gmsrm_jax.evaluation.verdicts import begun_row
from gmsrm_jax.evaluation.worker import Rows
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Variables
from gmsrm_jax.methods.classical import check_packages
from gmsrm_jax.methods.variables import weights_sha256
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.networks.fields import check_begin_from
from gmsrm_jax.networks.folder import Pretrained
from gmsrm_jax.networks.names import is_workdir
from gmsrm_jax.networks.workdir import trained_variables
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.devices import check_batch, data_mesh, local_mesh, to_every_device
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.heartbeat import heartbeat
from gmsrm_jax.runtime.log import Progress, say
from gmsrm_jax.runtime.processes import everywhere, from_process_0
from gmsrm_jax.runtime.shares import Join, Share


def evaluate_run(
    config: ConfigDict,
    source: pathlib.Path | Pretrained,
    output: pathlib.Path,
    step: int | None = None,
    share: Share | Join | None = None,
) -> dict[str, Any]:
    """Scores what fills holes, and writes the scores and what was filled.

    What was scored before with this config, on these pictures, masks, predictions, weights and
    versions, is not scored again, and an evaluation that was stopped goes on.

    With several processes all of them call this; each scores a share on its own devices, and
    process 0 joins them.

    Args:
        config: the run's config; of a network its own, with the test set and what is scored.
        source: a folder that `train` filled, of which the stage that fills is scored, or a network.
        output: where to write.
        step: of the checkpoint; None for the newest.
        share: fill and score this one alone, or fill nothing and join those that are done.

    Returns:
        What metrics.json holds, with reasons in facts.not_scored for each measure whose weights are
        missing; nothing for a share, and in other processes than the first.

    Raises:
        UserError: there is no checkpoint, or no test set, or a share to be joined is not finished.
    """
    facts: dict[str, Any]
    if isinstance(source, Pretrained):
        facts = {"checkpoint": source.source, "checkpoint_step": None, "began_with": None}
        return _evaluated(config, source.variables, facts, output, {}, share)
    folder = checkpoint_folder(source, METHODS[config.method].last_stage(config))
    checkpoints, newest = open_finished(folder, "train first, with the same --workdir")
    step = newest if step is None else step
    everywhere(lambda: check_config_of_run(config, source, None))
    # Before the masks are drawn, for a training that goes on removes its older checkpoints.
    variables = trained_variables(config, checkpoints, step, data_mesh())
    checkpoints.finish()
    begun = _begun(config)
    facts = {
        "checkpoint": str(folder),
        "checkpoint_step": step,
        "began_with": begun and {"name": begun.source, "sha256": begun.sha256},
    }
    rows = {begun_row(begun.source): begun.variables} if begun else {}
    return _evaluated(config, variables, facts, output, rows, share)


def _begun(config: ConfigDict) -> Pretrained | None:
    """The network that the training began with; None if there was none, or it is gone."""
    spec = METHODS[config.method].begins_from(config)
    if spec is None:
        return None
    try:
        if jax.process_count() > 1 and is_workdir(pathlib.Path(spec.begin_from)):
            # Its checkpoint would be read in common, for the devices of one process.
            raise UserError(f"{spec.begin_from} is a workdir; evaluate with one process")
        network = load_pretrained(spec.begin_from)
        check_begin_from(config, network.config, spec.begin_from_field, spec.begin_from)
    except UserError as error:
        say(f"evaluation: not compared with the weights that the training began with: {error}")
        return None
    return dataclasses.replace(network, source=spec.begin_from)


def _evaluated(
    config: ConfigDict,
    variables: Variables,
    facts: dict[str, Any],
    output: pathlib.Path,
    begun: dict[str, Variables],
    share: Share | Join | None,
) -> dict[str, Any]:
    """Scores weights, and `begun` beside them, by row; facts are those of the weights' source."""
    mesh = local_mesh()
    variables = to_every_device(variables, mesh)

    def opened() -> tuple[EvaluationSet, Judge, dict[str, Predictions], dict[str, Any]]:
        pictures, mask_list = open_test_set(config)
        judge, measure_weights, lacking = open_judge(config)
        predictions = open_predictions(config, mask_list, begun)
        stated = {
            **facts,
            "weights_sha256": weights_sha256(variables),
            "method": config.method,
            "variant": config.variant,
            "test_pictures_sha256": pictures_sha256(pictures, len(mask_list.names)),
            "predictions_sha256": {name: given.sha256 for name, given in predictions.items()},
            "measure_weights_sha256": measure_weights,
            "not_scored": lacking,
            "config": json.loads(config.to_json()),
        }
        return _test_set(config, pictures, mask_list), judge, predictions, stated

    test_set, judge, predictions, stated = everywhere(opened)
    metrics = from_process_0(lambda: scores_of(output, stated, test_set.mask_list))
    if metrics is not None:
        step = stated["checkpoint_step"]
        what = stated["checkpoint"] if step is None else f"step {step}"
        say(f"evaluation: {what} was scored before, nothing to do")
        return metrics if jax.process_index() == 0 else {}
    methods, samples = everywhere(lambda: open_methods(config, variables, mesh, begun))
    covered = {name: given.covered for name, given in predictions.items()}
    rows = Rows({**methods, **predictions}, samples, covered)

    def score(share: Share | Join | None) -> dict[str, Any]:
        return _score(config, rows, test_set, judge, stated, output, share)

    if jax.process_count() > 1:
        own = Share(jax.process_index(), jax.process_count())
        everywhere(lambda: score(own))
        if own.index:
            return {}
    return score(share)


def check_evaluation(config: ConfigDict) -> None:
    """Checks before a training what its evaluation will need; masks to be drawn are not drawn yet.

    Every test picture is decoded, for one that cannot be would otherwise stop the evaluation after
    the training.

    Raises:
        UserError: see `open_test_set`; or TensorFlow is missing and masks must be drawn; or a
            baseline's package is missing; or a picture for the figures is not there.
    """
    check_packages(METHODS[name] for name in config.evaluation.baselines if name != UNTRAINED)
    if config.evaluation.masks == "generated":
        importlib.import_module("gmsrm_jax.data.masks")
        pictures, names = _open_pictures(config)
    else:
        pictures, mask_list = open_test_set(config)
        names = list(mask_list.names)
    figure_examples(names, BIN_NAMES, pictures=config.evaluation.figure_pictures)
    for index in range(len(names)):
        pictures.image(index)


def open_test_set(config: ConfigDict) -> tuple[Pictures, MaskList]:
    """Opens what an evaluation needs besides weights.

    Raises:
        UserError: batch size, test pictures or masks cannot be used.
    """
    pictures, names = _open_pictures(config)
    return pictures, paired_masks(config, pictures, len(names)) or open_mask_list(config, names)


def export_test_set(config: ConfigDict, folder: pathlib.Path) -> None:
    """Writes the holed test pictures, their masks and the mask list, for another program to fill.

    Raises:
        UserError: see `open_test_set`.
    """
    test_set = _test_set(config, *open_test_set(config))
    mask_list = test_set.mask_list
    images, masks = export_inputs(folder, mask_list, test_set.image)
    write_mask_list(folder / "mask_list.npz", mask_list)
    count = len(mask_list.names) * len(mask_list.bins)
    say(
        f"wrote {count_of(count, 'picture')} with holes to {images}, and their masks (white is"
        f" hole) to {masks}"
    )


def _open_pictures(config: ConfigDict) -> tuple[Pictures, list[str]]:
    check_batch("evaluation.batch_size", config.evaluation.batch_size, local_mesh())
    pictures = open_test(config)
    if isinstance(pictures, EncodedPictures):
        pictures.bad.say_all()
    return pictures, evaluated_names(pictures, config.evaluation.max_images)


def _test_set(config: ConfigDict, pictures: Pictures, mask_list: MaskList) -> EvaluationSet:
    return EvaluationSet(
        pictures,
        mask_list,
        image_size=config.image_size,
        shorter_side=config.data.shorter_side,
        test_resize=config.data.test_resize,
        max_images=config.evaluation.max_images,
    )


def _score(
    config: ConfigDict,
    rows: Rows,
    test_set: EvaluationSet,
    judge: Judge,
    facts: dict[str, Any],
    output: pathlib.Path,
    share: Share | Join | None,
) -> dict[str, Any]:
    """Scores all methods, and prints the table; of a share it only keeps the scores."""
    settings, mask_list = config.evaluation, test_set.mask_list
    write_mask_list(output / "mask_list.npz", mask_list)
    names, bins = mask_list.names, mask_list.bins
    what = f"share {share} of " if isinstance(share, Share) else ""
    say(
        f"evaluation: {what}{count_of(len(names), 'picture')} × {count_of(len(bins), 'mask')}"
        f" ({mask_list.source}), {count_of(len(rows.methods), 'method')}"
    )
    progress: Progress | None = None
    begun = time.monotonic()
    kept = figure_examples(names, bins, pictures=settings.figure_pictures, seed=settings.seed)

    def tell(done: int, total: int) -> None:
        nonlocal progress
        after = f"the batch after {done} of {total}" if done < total else "putting scores together"
        beat(f"evaluation: {after}")
        if (
            progress is None
        ):  # how many there are is known behind the first batch, which counts, too
            progress = Progress("evaluation", 0, total, 1)
            progress.pause(begun - time.monotonic())
        progress.update(done, "")

    with heartbeat() as beat:
        joins = isinstance(share, Join)
        beat(f"evaluation: {'reading the shares' if joins else 'compiling, first batch'}")
        try:
            evaluation = evaluate(
                rows,
                test_set,
                batch_size=settings.batch_size,
                output_dir=output,
                facts=facts,
                panel_rows=settings.panel_rows,
                kept=kept,
                judge=judge,
                progress=tell,
                share=share,
            )
        finally:
            if progress is not None:
                progress.close()
    if evaluation is None:
        return {}
    say(to_text(full_table(settings.dataset or UNNAMED, evaluation.metrics)))
    return evaluation.metrics


def scores_of(
    folder: pathlib.Path, facts: dict[str, Any], mask_list: MaskList
) -> dict[str, Any] | None:
    """The metrics if the very same was scored with these very versions, and all of it is there."""
    if not all((folder / name).exists() for name in (METRICS_FILE, PER_IMAGE_FILE, EXAMPLES_FILE)):
        return None
    metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    found = [metrics.get("facts"), metrics.get("mask_list"), metrics.get("run", {}).get("versions")]
    return metrics if found == [facts, mask_list.facts(), package_versions()] else None
