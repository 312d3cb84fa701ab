"""What a run says of itself before it begins: config, devices, batches, parameters, FLOPs, data.

The config and the tables of parameters are on the screen of a dry run only, which writes no log.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gmsrm_jax.data.loading import TrainingData
from gmsrm_jax.methods.base import Stage
from gmsrm_jax.networks.folder import Pretrained
from gmsrm_jax.runtime.devices import check_batch
from gmsrm_jax.runtime.log import note, say
from gmsrm_jax.training.loop import abstract_state, lower_programs, say_flops


def describe_run(
    config: ConfigDict, workdir: pathlib.Path, data: TrainingData, dry_run: bool
) -> None:
    """Says where, with what config, on which devices and on which pictures a run is done."""
    say(f"workdir: {workdir}")
    (say if dry_run else note)("config:\n" + config.to_yaml().rstrip())
    devices = jax.devices()
    say(
        f"devices: {len(devices)} × {devices[0].device_kind} ({devices[0].platform}), "
        f"{jax.process_count()} process(es)"
    )
    say(f"data: {data.description}")
    if data.bad is not None:
        data.bad.say_all()


def describe_stage(
    config: ConfigDict,
    stage: Stage,
    given: Mapping[str, Any],
    mesh: Mesh,
    network: Pretrained | None,
    dry_run: bool,
) -> None:
    """Says a stage's length and parameters, and in a dry run its FLOPs; checks its batches.

    Args:
        config: the run's config.
        stage: which one.
        given: shapes of what the stage's `init` is given.
        mesh: devices that share a batch.
        network: what it begins with, if that was read.
        dry_run: say all that there is.

    Raises:
        UserError: a batch cannot be split over the devices.
    """
    if network is not None:
        say(
            f"{stage.name}: begins as {network.source}, weights SHA-256 {network.sha256[:12]}; no "
            "stage before it is trained"
        )
    for key, size in stage.batches.items():
        check_batch(key, size, mesh, config.accumulation)
    say(
        f"{stage.name}: {stage.total_steps} steps of {stage.batch_size} pictures "
        f"({stage.batch_size // mesh.size} per device), "
        f"{stage.total_steps * stage.batch_size} pictures in all"
    )
    state = abstract_state(stage, config.seed, given)
    weights = {name: tree["params"] for name, tree in state.variables.items()}
    weights |= {
        f"{name} (kept)": tree["params"]
        for name, tree in state.kept.items()
        if isinstance(tree, dict) and tree.get("params")
    }
    if config.tensorboard:
        from gmsrm_jax.runtime.tensorboard import parameter_table

        (say if dry_run else note)(parameter_table(weights))
    counts = ", ".join(f"{name} {_count(tree):,}" for name, tree in weights.items())
    say(f"{stage.name}: parameters: {counts}")
    if dry_run:
        _say_flops(config, stage, state, mesh)


def _say_flops(config: ConfigDict, stage: Stage, state: Any, mesh: Mesh) -> None:
    size = (stage.batch_size, config.image_size, config.image_size)
    batch = {
        "image": jax.ShapeDtypeStruct((*size, 3), np.uint8),
        "mask": jax.ShapeDtypeStruct((*size, 1), np.uint8),
    }
    say_flops(stage, lower_programs(stage, state, batch, mesh))


def _count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
