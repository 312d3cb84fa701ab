"""A whole training run: both stages, then the evaluation, each part done once in a workdir."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gmsrm_jax.assets import resolve_path
from gmsrm_jax.checkpoints import Checkpoints, require_step
from gmsrm_jax.data.loading import TrainingData, open_data
from gmsrm_jax.devices import check_batch, data_mesh, replicated
from gmsrm_jax.errors import UserError
from gmsrm_jax.files import write_atomically
from gmsrm_jax.models.vgg import Vgg19Weights, load_vgg19
from gmsrm_jax.run_log import open_text_log, say
from gmsrm_jax.scoring import evaluate_run
from gmsrm_jax.stages.base import Stage
from gmsrm_jax.stages.inpainting import InpaintingStage
from gmsrm_jax.stages.memory import MemoryStage
from gmsrm_jax.train import (
    abstract_state,
    checkpoint_folder,
    lower_programs,
    say_flops,
    train_stage,
)
from gmsrm_jax.variants import VARIANTS

# Fields that may differ when a run goes on: they do not change what is learned.
_FREE = ("name", "log_every", "tensorboard", "evaluation", "data.num_threads", "data.test")


def train(
    config: ConfigDict, workdir: pathlib.Path, stage: str, dry_run: bool, command: str
) -> None:
    """Trains the stages that are asked for and not finished yet, then evaluates and reports.

    Args:
        config: the run's config.
        workdir: folder of everything that the run writes.
        stage: "all", "memory" or "inpainting".
        dry_run: say what would be done, and end.
        command: what to type to do it again, for the report.

    Raises:
        UserError: something in config, data or workdir does not allow the run.
    """
    wants = [name for name in ("memory", "inpainting") if stage in ("all", name)]
    if not VARIANTS[config.variant].memory and "memory" in wants:
        wants.remove("memory")
        if not wants:
            raise UserError(f"variant {config.variant!r} has no memory; use --stage=inpainting")
    _check_data_is_there(config)
    data = open_data(config)
    run = Run(config, workdir, data, dry_run)
    open_text_log(None if dry_run else workdir / "train.log")
    run.describe(wants)
    if dry_run:
        return
    _remember_config(config, workdir)
    for name in wants:
        run.train(name)
    if "inpainting" in wants:
        evaluate_run(config, workdir, command)


class Run:
    """The parts that both stages of a run share."""

    def __init__(
        self, config: ConfigDict, workdir: pathlib.Path, data: TrainingData, dry_run: bool = False
    ):
        """Opens the devices and the features of the losses."""
        self.dry_run = dry_run
        self.config, self.workdir, self.data = config, workdir, data
        self.mesh: Mesh = data_mesh()
        self.validation = data.validation()
        self.vgg: Vgg19Weights = load_vgg19(
            config.inpainting.vgg, tuple(config.inpainting.perceptual_layers)
        )

    def stage(self, name: str) -> Stage:
        """Builds a stage."""
        if name == "memory":
            return MemoryStage(self.config, self.validation, self.vgg)
        return InpaintingStage(self.config, self.data.num_examples, self.validation, self.vgg)

    def train(self, name: str) -> None:
        """Runs a stage to its end, handing over what stage 1 kept."""
        pretrained = None
        if name == "inpainting" and VARIANTS[self.config.variant].memory:
            pretrained = self._memory_snapshot()
        train_stage(
            self.stage(name),
            data=self.data,
            workdir=self.workdir,
            mesh=self.mesh,
            seed=self.config.seed,
            pretrained=pretrained,
            log_every=self.config.log_every,
            optimization_level=self.config.xla_optimization_level,
            tensorboard=self.config.tensorboard,
        )

    def _memory_snapshot(self) -> dict[str, Any]:
        """What the finished stage 1 kept: its best snapshot."""
        stage = self.stage("memory")
        folder = checkpoint_folder(self.workdir, "memory")
        checkpoints = Checkpoints(folder)
        step = require_step(checkpoints, "run --stage=memory first, with the same --workdir")
        if step < stage.total_steps:
            raise UserError(
                f"stage 1 in {folder} stands at step {step} of {stage.total_steps}; "
                "finish it with --stage=memory first"
            )
        target = abstract_state(stage, self.config.seed, None)
        kept = checkpoints.restore_items(step, {"kept": target.kept}, replicated(self.mesh))["kept"]
        checkpoints.finish()
        say(
            f"inpainting: takes the memory's snapshot of step {int(kept['step'])}, "
            f"VGG distance {float(kept['distance']):.3f}"
        )
        return kept

    def describe(self, wants: list[str]) -> None:
        """Says what the run will do: config, devices, batches, parameters, FLOPs, data."""
        config = self.config
        say(f"workdir: {self.workdir}")
        say("config:\n" + config.to_yaml().rstrip())
        devices = jax.devices()
        say(
            f"devices: {len(devices)} × {devices[0].device_kind} ({devices[0].platform}), "
            f"{jax.process_count()} process(es)"
        )
        say(f"data: {self.data.description}")
        pretrained = None
        for name in wants:
            stage = self.stage(name)
            if name == "inpainting" and VARIANTS[config.variant].memory:
                memory = self.stage("memory")
                pretrained = abstract_state(memory, config.seed, None).kept
            self._describe_stage(stage, pretrained)

    def _describe_stage(self, stage: Stage, pretrained: Any) -> None:
        key = "batch_size" if stage.name == "inpainting" else f"{stage.name}.batch_size"
        check_batch(key, stage.batch_size, self.mesh)
        say(
            f"{stage.name}: {stage.total_steps} steps of {stage.batch_size} pictures "
            f"({stage.batch_size // self.mesh.size} per device), "
            f"{stage.total_steps * stage.batch_size} pictures in all"
        )
        state = abstract_state(stage, self.config.seed, pretrained)
        weights = {**state.params, **{f"{n} (kept)": p for n, p in state.kept.items()}}
        if self.config.tensorboard:
            from gmsrm_jax.tensorboard import parameter_table

            say(parameter_table(state.params))
        counts = ", ".join(f"{name} {_count(tree):,}" for name, tree in weights.items())
        say(f"{stage.name}: parameters: {counts}")
        if self.dry_run:
            size = (stage.batch_size, self.config.image_size, self.config.image_size)
            batch = {
                "image": jax.ShapeDtypeStruct((*size, 3), np.uint8),
                "mask": jax.ShapeDtypeStruct((*size, 1), np.uint8),
            }
            say_flops(stage, lower_programs(stage, state, batch, self.mesh))


def _check_data_is_there(config: ConfigDict) -> None:
    """Checks that the places of the pictures exist, before anything slow is done.

    Raises:
        UserError: says what to place where, and what runs without it.
    """
    for key in ("train", "test"):
        spec = config.data[key]
        if not spec or not resolve_path(spec).exists():
            note = f"{config.data.note}; " if config.data.note else ""
            raise UserError(
                f"config.data.{key} = {spec!r} does not exist. {note}without any data set, "
                "this config with :runlocal behind it and --config=configs/demo.py run"
            )


def _count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def _remember_config(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes config.json; a workdir that was begun with another config is refused.

    Raises:
        UserError: names the differing fields and both values.
    """
    path = workdir / "config.json"
    now = _flatten(config.to_dict())
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [
            f"{key} ({before.get(key)!r} then, {now.get(key)!r} now)"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(_FREE)
        ]
        if changed:
            raise UserError(
                f"{workdir} was begun with another config: {'; '.join(changed)}; "
                "use the same one to go on, or another --workdir"
            )
    write_atomically(path, (json.dumps(now, indent=1, ensure_ascii=False) + "\n").encode())
