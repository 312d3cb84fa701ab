"""The trained network of a workdir: averaged weights, frozen memory, and what is known of it."""

import json
import pathlib

import jax
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

import gmsrm_jax
from gmsrm_jax.assets import BUNDLED
from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder, open_finished
from gmsrm_jax.config.of_run import config_of_run
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Variables
from gmsrm_jax.methods.variables import parted, variable_shapes
from gmsrm_jax.networks.folder import Pretrained, pretrained
from gmsrm_jax.runtime.devices import replicated
from gmsrm_jax.runtime.log import format_seconds, read_log


def read_workdir(folder: pathlib.Path) -> Pretrained:
    """Reads the newest good checkpoint of the stage that fills, the last one.

    Raises:
        UserError: there is none, or it is not of the workdir's config.
    """
    config = config_of_run(folder)
    last = METHODS[config.method].last_stage(config)
    checkpoints, step = open_finished(
        checkpoint_folder(folder, last), f"finish its training, --workdir={folder}"
    )
    one = jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=jax.local_devices()[:1])
    variables = trained_variables(config, checkpoints, step, one)
    checkpoints.finish()
    return pretrained(config, variables, f"{folder} (step {step})", _facts(config, folder, step))


def trained_variables(
    config: ConfigDict, checkpoints: Checkpoints, step: int, mesh: Mesh
) -> Variables:
    """The variables that fill, from a checkpoint of the last stage; nothing else of it is read.

    Raises:
        UserError: the checkpoint is not one of this config.
    """
    method = METHODS[config.method]
    items = checkpoints.restore_items(
        step, checkpoints.shapes(step, ("average", "kept")), replicated(mesh)
    )
    variables, _ = parted(method.finish(config, items["average"], items["kept"]), method.gone)
    checkpoints.check_arrays(step, variables, variable_shapes(method, config))
    return variables


def _facts(config: ConfigDict, folder: pathlib.Path, step: int) -> dict[str, str]:
    facts = {"data": _data(config), "code": f"gmsrm-jax {gmsrm_jax.__version__}"}
    stages = [spec.name for spec in METHODS[config.method].stages_of(config)]
    logs = {name: read_log(folder / name / "log.jsonl") for name in stages}
    logs = {name: lines for name, lines in logs.items() if lines}
    lengths = {name: int(lines[-1]["step"]) for name, lines in logs.items()} | {stages[-1]: step}
    facts["steps"] = ", ".join(f"{name} {count}" for name, count in lengths.items())
    if logs.keys() == set(stages):
        seconds = sum(lines[-1]["seconds"] for lines in logs.values())
        facts["time"] = f"{format_seconds(seconds)} (h:mm:ss or m:ss)"
    table = _table(folder, step)
    return {**facts, "table": table} if table else facts


def _data(config: ConfigDict) -> str:
    """The training pictures, and what training began with, without the folders of a machine."""
    spec = config.data.train
    if not spec.startswith((BUNDLED, "tfds:")):
        spec = pathlib.Path(spec).name
    data = f"{spec} ({config.data.note})" if config.data.note else spec
    begins = METHODS[config.method].begins_from(config)
    if begins is None:
        return data
    return f"{data}; begun with the weights of {pathlib.Path(begins.begin_from).name}"


def _table(folder: pathlib.Path, step: int) -> str | None:
    """Table I of the workdir's evaluation, if it is of this step."""
    try:
        metrics = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
        table = (folder / "evaluation" / "table_1.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return table if metrics["facts"]["checkpoint_step"] == step else None
