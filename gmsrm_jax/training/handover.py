"""What a stage begins with: earlier stages, a trained network, or a smaller stage of its name."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gmsrm_jax.checkpoints.steps import saved_steps
from gmsrm_jax.checkpoints.store import checkpoint_folder, open_finished
from gmsrm_jax.config.of_run import config_of_run
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, Growth, Stage, StageSpec
from gmsrm_jax.methods.variables import variable_shapes
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.networks.fields import check_begin_from
from gmsrm_jax.networks.folder import Pretrained
from gmsrm_jax.networks.names import is_workdir
from gmsrm_jax.runtime.devices import replicated
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import say
from gmsrm_jax.runtime.processes import check_agreement, everywhere, from_process_0
from gmsrm_jax.training.loop import abstract_state


def steps_done(workdir: pathlib.Path, stage: str) -> int:
    """The step of a stage's newest checkpoint by what process 0 sees; 0 if it has none."""
    folder = checkpoint_folder(workdir, stage)
    return from_process_0(lambda: max(saved_steps(folder), default=0))


def begun(workdir: pathlib.Path, stage: str) -> bool:
    """Whether a stage has a checkpoint, by what process 0 sees."""
    return steps_done(workdir, stage) > 0


def shapes_given(
    config: ConfigDict, spec: StageSpec, stages: Mapping[str, Stage]
) -> dict[str, Any]:
    """Shapes of what a stage is given, but for what it grows from, which no shape depends on.

    Args:
        config: the run's config.
        spec: the stage.
        stages: all of the method, built, by name.
    """
    given: dict[str, Any] = {}
    for name, items in spec.after.items():
        given_earlier = shapes_given(config, _spec(config, name), stages)
        state = abstract_state(stages[name], config.seed, given_earlier)
        given[name] = {item: getattr(state, item) for item in items}
    if spec.begin_from:
        given["begin_from"] = variable_shapes(METHODS[config.method], config)
    return given


def earlier_items(
    config: ConfigDict,
    spec: StageSpec,
    name: str,
    workdir: pathlib.Path,
    stages: Mapping[str, Stage],
    mesh: Mesh,
) -> dict[str, Any]:
    """Items of the last state of an earlier stage.

    Args:
        config: the run's config.
        spec: the stage that is given them.
        name: of the earlier stage.
        workdir: where the earlier stage was trained.
        stages: all of the method, built, by name.
        mesh: devices that get a copy each.

    Raises:
        UserError: the earlier stage is not finished.
    """
    stage, items = stages[name], spec.after[name]
    folder = checkpoint_folder(workdir, name)
    checkpoints, step = open_finished(folder, f"run --stage={name} first, with the same --workdir")
    if step < stage.total_steps:
        raise UserError(
            f"stage {name} in {folder} stands at step {step} of {stage.total_steps}; finish it "
            f"with --stage={name} first"
        )
    given = shapes_given(config, _spec(config, name), stages)
    target = abstract_state(stage, config.seed, given)
    wanted = {item: getattr(target, item) for item in items}
    restored = checkpoints.restore_items(step, wanted, replicated(mesh))
    checkpoints.finish()
    say(f"{spec.name}: takes {' and '.join(items)} of {name}, step {step}{_numbers(restored)}")
    return restored


def begun_network(config: ConfigDict, spec: StageSpec) -> Pretrained:
    """The trained network that a stage begins with, the same in every process.

    Raises:
        UserError: there is none, its fields are not those of the config, or the processes read
            different weights.
    """
    network = everywhere(lambda: _trained_network(config, spec))
    check_agreement({"network to begin with (SHA-256)": network.sha256})
    return network


def growing_items(
    config: ConfigDict, spec: StageSpec, context: Context, mesh: Mesh
) -> dict[str, Any]:
    """The last state of the smaller stage that this one grows from, finished or stopped.

    Args:
        config: the run's config.
        spec: the stage that grows.
        context: what the data say.
        mesh: devices that get a copy each.

    Raises:
        UserError: there is none, or its networks are not smaller ones of the same kind.
    """
    growth = spec.grow_from
    if growth is None:
        raise ValueError(f"{spec.name} does not grow")
    workdir = pathlib.Path(growth.workdir)
    smaller, stage, cure = everywhere(lambda: _smaller_stage(config, spec, growth, context))
    checkpoints, step = open_finished(checkpoint_folder(workdir, spec.name), cure)
    target = abstract_state(stage, smaller.seed, {})
    items = {name: getattr(target, name) for name in growth.items}
    restored = checkpoints.restore_items(step, items, replicated(mesh))
    checkpoints.finish()
    say(f"{spec.name}: begins with the weights of {workdir}, {smaller.image_size} px, step {step}")
    return restored


def _smaller_stage(
    config: ConfigDict, spec: StageSpec, growth: Growth, context: Context
) -> tuple[ConfigDict, Stage, str]:
    """Config and stage of the smaller run, and what to do if it has no checkpoint.

    Raises:
        UserError: see `growing_items`.
    """
    workdir = pathlib.Path(growth.workdir)
    cure = f"train it with --stage={spec.name} first, or set {growth.field} to ''"
    if not workdir.is_dir():
        raise UserError(f"{growth.field} = '{workdir}' does not exist; {cure}")
    smaller = config_of_run(workdir)
    stages = {own.name: own for own in METHODS[smaller.method].stages_of(smaller)}
    same = smaller.method == config.method or spec.shared
    if spec.name not in stages or not (same and stages[spec.name].shared == spec.shared):
        raise UserError(
            f"{growth.field}: {workdir} is of the method {smaller.method} with the stages "
            f"{', '.join(stages)}; name one of {config.method} that trained {spec.name}"
        )
    growth.check(smaller)
    return smaller, stages[spec.name].build(context), cure


def _spec(config: ConfigDict, name: str) -> StageSpec:
    specs = METHODS[config.method].stages_of(config)
    return next(spec for spec in specs if spec.name == name)


def _trained_network(config: ConfigDict, spec: StageSpec) -> Pretrained:
    name, field = spec.begin_from, spec.begin_from_field
    if jax.process_count() > 1 and is_workdir(pathlib.Path(name)):
        # Its checkpoint would be read in common, and a process that does not see it would leave the
        # others waiting.
        raise UserError(
            f"{field} = {name!r} is a workdir; for several processes make a folder of it with "
            "`gmsrm export`"
        )
    try:
        network = load_pretrained(name)
    except UserError as error:
        raise UserError(f"{field} = {name!r}: {error}") from error
    check_begin_from(config, network.config, field, name)
    # What a workdir gives lies on one device, and the run has a mesh.
    return dataclasses.replace(network, variables=jax.device_get(network.variables))


def _numbers(items: dict[str, Any]) -> str:
    """The single numbers among items, such as a snapshot's step and distance, for people."""
    found = [
        f"{key} {float(value):.4g}"
        for item in items.values()
        if isinstance(item, dict)
        for key, value in item.items()
        if getattr(value, "shape", None) == ()
    ]
    return f" ({', '.join(found)})" if found else ""
