"""From a trained workdir to scores and a report: averaged weights fill the test set's holes."""

import functools
import importlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from gmsrm_jax.checkpoints import Checkpoints, checkpoint_folder, open_finished
from gmsrm_jax.data.sources import EncodedPictures, Pictures
from gmsrm_jax.data.splits import open_test
from gmsrm_jax.devices import check_batch, data_mesh, replicated, to_devices
from gmsrm_jax.evaluation.baselines import mean_colour
from gmsrm_jax.evaluation.evaluate import (
    EXAMPLES_FILE,
    METRICS_FILE,
    evaluate,
    evaluated_names,
)
from gmsrm_jax.evaluation.examples import read_examples
from gmsrm_jax.evaluation.mask_list_file import write_mask_list
from gmsrm_jax.evaluation.mask_lists import MaskList, open_mask_list
from gmsrm_jax.evaluation.tables import format_table
from gmsrm_jax.models.inpainting import build_network, join_frozen, split_frozen
from gmsrm_jax.models.memory import draw_noise, indexed_noise, memory_resolutions, noise_shapes
from gmsrm_jax.report.charts import Curve, curves_from_log
from gmsrm_jax.report.report import Picture, panel_rows, write_report
from gmsrm_jax.resume import check_config_of_run
from gmsrm_jax.run_log import Progress, format_seconds, read_log, say
from gmsrm_jax.stages.base import apply

METHODS = {"base": "Base", "gm_bm": "GM-BM", "gm_csv": "GM-CSV", "gm_srm": "GM-SRM"}
UNTRAINED = "untrained network"


def evaluate_run(config: ConfigDict, workdir: pathlib.Path, command: str) -> None:
    """Scores the newest stage-2 checkpoint of a workdir, and writes evaluation/ and report.html.

    A checkpoint that was scored with this config and these masks before is not scored again.

    Args:
        config: the run's config.
        workdir: a folder that `train` filled.
        command: what to type to do it again, for the report.

    Raises:
        UserError: there is no checkpoint, or no test set.
    """
    mesh = data_mesh()
    folder = checkpoint_folder(workdir, "inpainting")
    checkpoints, step = open_finished(folder, "train first, with the same --workdir")
    check_config_of_run(config, workdir, None)
    pictures, mask_list = _open_test_set(config)
    facts = {"checkpoint_step": step, "config": json.loads(config.to_json())}
    output = workdir / "evaluation"
    before = _scores_of(output / METRICS_FILE, facts, mask_list)
    if before is not None:
        say(f"evaluation: step {step} was scored before, nothing to do")
        checkpoints.finish()
        _write_report(config, workdir, before, command)
        return
    params = _trained_weights(config, checkpoints, step, mesh)
    checkpoints.finish()
    write_mask_list(output / "mask_list.npz", mask_list)
    names, bins = mask_list.names, mask_list.bins
    if isinstance(pictures, EncodedPictures):
        pictures.bad.say_all()
    say(f"evaluation: step {step}, {len(names)} pictures × {len(bins)} masks")
    progress = Progress("evaluation", 0, len(names) * len(bins), 1)
    fill = network_fill(config, mesh)
    evaluation = evaluate(
        {
            METHODS[config.variant]: functools.partial(fill, params),
            UNTRAINED: functools.partial(fill, _untrained_weights(config, mesh)),
            "mean colour": mean_colour,
        },
        pictures,
        mask_list,
        image_size=config.image_size,
        shorter_side=config.data.shorter_side,
        test_resize=config.data.test_resize,
        batch_size=config.evaluation.batch_size,
        max_images=config.evaluation.max_images,
        output_dir=output,
        facts=facts,
        panel_rows=config.evaluation.panel_rows,
        progress=lambda done, total: progress.update(done, ""),
    )
    progress.close()
    say(format_table(evaluation.metrics))
    _write_report(config, workdir, evaluation.metrics, command)


def check_evaluation(config: ConfigDict) -> None:
    """Checks before a training what its evaluation will need; masks to be drawn are not drawn yet.

    Raises:
        UserError: see `_open_test_set`; or TensorFlow is missing and masks must be drawn.
    """
    if config.evaluation.masks == "generated":
        importlib.import_module("gmsrm_jax.data.masks")
        _open_pictures(config)
    else:
        _open_test_set(config)


def _open_pictures(config: ConfigDict) -> tuple[Pictures, list[str]]:
    check_batch("evaluation.batch_size", config.evaluation.batch_size, data_mesh())
    pictures = open_test(config)
    return pictures, evaluated_names(pictures, config.evaluation.max_images)


def _open_test_set(config: ConfigDict) -> tuple[Pictures, MaskList]:
    """Opens what an evaluation needs besides weights.

    Raises:
        UserError: batch size, test pictures or masks cannot be used.
    """
    pictures, names = _open_pictures(config)
    return pictures, open_mask_list(config, names)


def network_fill(config: ConfigDict, mesh: Mesh) -> Callable[..., np.ndarray]:
    """A method of the evaluation (`evaluate.Fill`) with the weights as its first argument.

    The noise of an example is a function of `evaluation.seed` and its index alone; with
    `evaluation.noise` = "mean" it is zero.
    """
    network, resolutions = build_network(config), memory_resolutions(config.image_size)

    def fill(params: Any, image: jax.Array, mask: jax.Array, index: jax.Array) -> jax.Array:
        if config.evaluation.noise == "mean":
            noise = [jnp.zeros(shape) for shape in noise_shapes(len(image), resolutions)]
        else:
            noise = indexed_noise(config.evaluation.seed, index, resolutions)
        return apply(network, params, image, mask, noise).image

    compiled = jax.jit(fill)

    def method(
        params: Any, image: np.ndarray, mask: np.ndarray, example_index: np.ndarray
    ) -> np.ndarray:
        batch = to_devices({"image": image, "mask": mask, "index": example_index}, mesh)
        return np.asarray(compiled(params, batch["image"], batch["mask"], batch["index"]))

    return method


def _network_shapes(config: ConfigDict) -> Any:
    """Shapes of all of the network's parameters."""
    return jax.eval_shape(lambda: _draw(config))


def _draw(config: ConfigDict) -> Any:
    size = config.image_size
    image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
    key, key_noise = jax.random.split(jax.random.key(config.seed))
    noise = draw_noise(key_noise, 1, memory_resolutions(size))
    return build_network(config).init(key, image, mask, noise)["params"]


def _untrained_weights(config: ConfigDict, mesh: Mesh) -> Any:
    return jax.jit(lambda: _draw(config), out_shardings=replicated(mesh))()


def _trained_weights(
    config: ConfigDict, checkpoints: Checkpoints, step: int, mesh: Mesh
) -> dict[str, Any]:
    """Averaged weights of a checkpoint with the frozen memory; nothing else of it is read."""
    trained, frozen = split_frozen(_network_shapes(config), config.inpainting.train_noise_strength)
    targets = {"average": {"network": trained}, "kept": {"network": frozen}}
    items = checkpoints.restore_items(step, targets, replicated(mesh))
    return join_frozen(items["average"]["network"], items["kept"]["network"])


def _scores_of(
    path: pathlib.Path, facts: dict[str, Any], mask_list: MaskList
) -> dict[str, Any] | None:
    """The metrics if this very checkpoint was scored with this very config and masks."""
    if not path.exists():
        return None
    metrics = json.loads(path.read_text(encoding="utf-8"))
    same = metrics.get("facts") == facts and metrics.get("mask_list") == mask_list.facts()
    return metrics if same else None


def _write_report(
    config: ConfigDict, workdir: pathlib.Path, metrics: dict[str, Any], command: str
) -> None:
    """Gathers tables, curves and pictures in report.html."""
    curves: list[Curve] = []
    facts: dict[str, Any] = {
        "variant": config.variant,
        "picture size": f"{config.image_size} px",
        "test pictures": metrics["pictures"],
        "devices": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
    }
    for stage in ("memory", "inpainting"):
        lines = read_log(workdir / stage / "log.jsonl")
        if lines:
            curves += curves_from_log(stage, lines)
            last = lines[-1]
            facts[f"{stage} stage"] = (
                f"{last['step']:,} steps, {last['images']:,} pictures, "
                f"{format_seconds(last['seconds'])} of training"
            )
    figures = []
    samples = sorted((workdir / "memory" / "panels").glob("samples_*.png"))
    if samples:
        figures.append(
            Picture(
                "Samples of the generative memory",
                np.asarray(Image.open(samples[-1]).convert("RGB")),
                "a grid of pictures that the memory makes by itself after stage 1",
            )
        )
    examples = read_examples(workdir / "evaluation" / EXAMPLES_FILE)
    write_report(
        workdir / "report.html",
        title=f"GM-SRM, {config.name}",
        command=command,
        facts=facts,
        metrics=metrics,
        panels=panel_rows(examples, METHODS[config.variant]),
        curves=curves,
        figures=figures,
        config=config.to_dict(),
    )
    say(f"report: {workdir / 'report.html'}")
