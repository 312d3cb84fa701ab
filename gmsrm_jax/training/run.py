"""A whole training run: both stages, then the evaluation, each part done once in a workdir."""

import contextlib
import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import gmsrm_jax
from gmsrm_jax.assets import resolve_path
from gmsrm_jax.checkpoints.steps import saved_steps
from gmsrm_jax.checkpoints.store import checkpoint_folder, open_finished
from gmsrm_jax.config.checks import check_growth
from gmsrm_jax.config.of_run import (
    check_config_of_run,
    config_of_run,
    config_sha256,
    remember_config,
)
from gmsrm_jax.data.loading import open_data
from gmsrm_jax.data.sources import TFDS
from gmsrm_jax.data.splits import has_test_pictures
from gmsrm_jax.data.training_data import TrainingData
from gmsrm_jax.evaluation.run import check_evaluation, evaluate_run
from gmsrm_jax.methods.base import Stage
from gmsrm_jax.methods.gm_srm.distance import DISTANCE_LAYERS
from gmsrm_jax.methods.gm_srm.stage_1 import MemoryStage
from gmsrm_jax.methods.gm_srm.stage_2 import InpaintingStage
from gmsrm_jax.methods.gm_srm.variants import VARIANTS
from gmsrm_jax.methods.network_weights import weight_shapes
from gmsrm_jax.networks import Pretrained, load_pretrained
from gmsrm_jax.networks.fields import check_begin_from
from gmsrm_jax.networks.names import is_workdir
from gmsrm_jax.nn.vgg import Vgg19Weights, load_vgg19
from gmsrm_jax.runtime.devices import check_batch, data_mesh, replicated
from gmsrm_jax.runtime.errors import Stopped, UserError
from gmsrm_jax.runtime.lock import lock_workdir
from gmsrm_jax.runtime.log import note, open_text_log, say, writing
from gmsrm_jax.runtime.processes import check_agreement, everywhere, from_process_0, gather
from gmsrm_jax.runtime.signals import noticed_by_steps, signal_received
from gmsrm_jax.training.loop import (
    abstract_state,
    lower_programs,
    say_flops,
    train_stage,
)


def train(
    config: ConfigDict,
    workdir: pathlib.Path,
    stage: str,
    dry_run: bool,
    command: str,
    memory_workdir: pathlib.Path | None = None,
) -> None:
    """Trains the stages that are asked for and not finished yet, then evaluates and reports.

    With several processes all of them call this, with the same arguments; process 0 writes and
    evaluates.

    Args:
        config: the run's config.
        workdir: folder of everything that the run writes.
        stage: "all", "memory" or "inpainting".
        dry_run: say what would be done, and end.
        command: what to type to do it again, for the report.
        memory_workdir: the workdir whose finished stage 1 is taken; None for this one.

    Raises:
        NotFinite: a loss, a gradient norm or a score is not finite.
        Stopped: a signal came while a stage was trained; everything is saved.
        UserError: something in config, data or workdir does not allow the run.
    """
    wants = [name for name in ("memory", "inpainting") if stage in ("all", name)]
    if not VARIANTS[config.variant].memory and "memory" in wants:
        wants.remove("memory")
        if not wants:
            raise UserError(f"variant {config.variant!r} has no memory; use --stage=inpainting")
    if config.inpainting.begin_from and "memory" in wants:
        wants.remove("memory")
        if not wants:
            raise UserError(
                f"config.inpainting.begin_from = '{config.inpainting.begin_from}' brings a memory; "
                "use --stage=inpainting"
            )
    evaluates = "inpainting" in wants and has_test_pictures(config)
    first, alone = jax.process_index() == 0, jax.process_count() == 1
    with contextlib.ExitStack() as opened:
        training = opened.enter_context(contextlib.ExitStack())
        if not alone:
            # Where one process ends, the others hang; so all go on to the first common step.
            training.enter_context(noticed_by_steps())

        def prepare() -> TrainingData:
            _check_pictures_are_there(config, "train")
            if config.data.test:
                _check_pictures_are_there(config, "test")
            data = open_data(config)
            if first:
                if not dry_run:
                    opened.enter_context(lock_workdir(workdir))
                check_config_of_run(config, workdir, data.fingerprint)
                if evaluates:
                    check_evaluation(config)
            return data

        data = everywhere(prepare)
        check_agreement(
            {
                "config (SHA-256)": config_sha256(config),
                "set of training pictures": data.fingerprint,
                "version of gmsrm_jax": gmsrm_jax.__version__,
            }
        )
        if data.bad is not None:
            data.bad.judged_in_common = not alone
        run = everywhere(lambda: Run(config, workdir, data, dry_run, memory_workdir))
        # Before the workdir holds a config that a wrong name would be part of.
        run.read_begin_from()
        everywhere(lambda: open_text_log(None if dry_run else workdir / "train.log", first))
        run.describe(wants)
        if dry_run:
            return

        def begin() -> None:
            if first:
                with writing(workdir):
                    remember_config(config, workdir, data.fingerprint)

        everywhere(begin)
        for name in wants:
            run.train(name)
        training.close()
        if not alone and any(gather(signal_received())):
            raise Stopped("stopped by a signal before the evaluation")
        if evaluates:
            evaluate_run(config, workdir, command)
        elif "inpainting" in wants:
            say("no evaluation: data.test is empty and data.test_fraction is 0; name test pictures")


class Run:
    """The parts that both stages of a run share."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: pathlib.Path,
        data: TrainingData,
        dry_run: bool = False,
        memory_workdir: pathlib.Path | None = None,
    ):
        """Opens the devices and the features of the losses."""
        self.dry_run, self.memory_workdir = dry_run, memory_workdir or workdir
        self._detail = say if dry_run else note
        self.config, self.workdir, self.data = config, workdir, data
        self.mesh: Mesh = data_mesh()
        self.validation = data.validation()
        layers = max(tuple(config.inpainting.perceptual_layers), DISTANCE_LAYERS, key=len)
        self.vgg: Vgg19Weights = load_vgg19(config.inpainting.vgg, layers)
        self.begin_from: Pretrained | None = None

    def stage(self, name: str) -> Stage:
        """Builds a stage."""
        if name == "memory":
            return MemoryStage(self.config, self.validation, self.vgg)
        return InpaintingStage(self.config, self.data.num_examples, self.validation, self.vgg)

    def train(self, name: str) -> None:
        """Runs a stage to its end, handing over what an earlier one has."""
        pretrained = None
        if name == "memory" and self.config.memory.grow_from and not self._begun(name):
            pretrained = self._smaller_memory()
        elif name == "inpainting" and self.config.inpainting.begin_from:
            pretrained = self._begin_from_weights()
        elif name == "inpainting" and VARIANTS[self.config.variant].memory:
            pretrained = self.memory_snapshot()
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
            max_skipped_updates=self.config.max_skipped_updates,
        )

    def _begun(self, name: str) -> bool:
        folder = checkpoint_folder(self.workdir, name)
        return from_process_0(lambda: bool(saved_steps(folder)))

    def read_begin_from(self) -> None:
        """Reads the network that stage 2 is to begin with; a stage 2 that was begun needs none.

        Raises:
            UserError: there is none, its fields are not those of the config, or the processes read
                different weights.
        """
        if not self.config.inpainting.begin_from or self._begun("inpainting"):
            return
        self.begin_from = everywhere(self._trained_network)
        check_agreement({"network to begin with (SHA-256)": self.begin_from.sha256})

    def _trained_network(self) -> Pretrained:
        name = self.config.inpainting.begin_from
        if jax.process_count() > 1 and is_workdir(pathlib.Path(name)):
            # Its checkpoint would be read in common, and a process that does not see it would
            # leave the others waiting.
            raise UserError(
                f"config.inpainting.begin_from = {name!r} is a workdir; for several processes "
                "make a folder of it with `gmsrm export`"
            )
        try:
            network = load_pretrained(name)
        except UserError as error:
            raise UserError(f"config.inpainting.begin_from = {name!r}: {error}") from error
        check_begin_from(self.config, network.config)
        # What a workdir gives lies on one device, and the run has a mesh.
        return dataclasses.replace(network, params=jax.device_get(network.params))

    def _begin_from_weights(self) -> dict[str, Any]:
        """{network}: the weights that were read, or their shapes for what is only restored."""
        if self.begin_from is None:
            return {"network": weight_shapes(self.config)}
        return {"network": self.begin_from.params}

    def _smaller_memory(self) -> dict[str, Any]:
        """The last state of the stage 1 that this one grows from, finished or stopped.

        Raises:
            UserError: there is none, or its networks are not smaller ones of the same kind.
        """
        workdir = pathlib.Path(self.config.memory.grow_from)
        cure = "train it with --stage=memory first, or set config.memory.grow_from to ''"
        if not workdir.is_dir():
            raise UserError(f"config.memory.grow_from = '{workdir}' does not exist; {cure}")
        smaller = config_of_run(workdir)
        check_growth(self.config, smaller)
        stage = MemoryStage(smaller, self.validation, self.vgg)
        checkpoints, step = open_finished(checkpoint_folder(workdir, "memory"), cure)
        target = abstract_state(stage, smaller.seed, None)
        items = {name: getattr(target, name) for name in ("params", "average", "extra")}
        restored = checkpoints.restore_items(step, items, replicated(self.mesh))
        checkpoints.finish()
        say(f"memory: begins with the weights of {workdir}, {smaller.image_size} px, step {step}")
        return restored

    def memory_snapshot(self) -> dict[str, Any]:
        """What the finished stage 1 kept, its best snapshot: `kept` of `MemoryStage`'s state.

        Raises:
            UserError: stage 1 is not finished.
        """
        stage = self.stage("memory")
        folder = checkpoint_folder(self.memory_workdir, "memory")
        cure = "run --stage=memory first, with the same --workdir"
        checkpoints, step = open_finished(folder, cure)
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
        """Says what the run will do: config, devices, batches, parameters, FLOPs, data.

        The config and the tables of parameters are on the screen of a dry run only, which writes
        no log.
        """
        config = self.config
        say(f"workdir: {self.workdir}")
        self._detail("config:\n" + config.to_yaml().rstrip())
        devices = jax.devices()
        say(
            f"devices: {len(devices)} × {devices[0].device_kind} ({devices[0].platform}), "
            f"{jax.process_count()} process(es)"
        )
        say(f"data: {self.data.description}")
        if self.data.bad is not None:
            self.data.bad.say_all()
        pretrained = None
        for name in wants:
            stage = self.stage(name)
            if name == "inpainting" and config.inpainting.begin_from:
                if self.begin_from is not None:
                    say(
                        f"inpainting: begins as {self.begin_from.source}, weights SHA-256 "
                        f"{self.begin_from.sha256[:12]}; its memory is taken, no stage 1 is trained"
                    )
                pretrained = self._begin_from_weights()
            elif name == "inpainting" and VARIANTS[config.variant].memory:
                memory = self.stage("memory")
                pretrained = abstract_state(memory, config.seed, None).kept
            self._describe_stage(stage, pretrained)

    def _describe_stage(self, stage: Stage, pretrained: Any) -> None:
        key = "batch_size" if stage.name == "inpainting" else f"{stage.name}.batch_size"
        accumulation, memory = self.config.accumulation, self.config.memory
        inpainting = self.config.inpainting
        check_batch(key, stage.batch_size, self.mesh, accumulation)
        shrink, by, used = {
            "memory": ("memory.path_batch_shrink", memory.path_batch_shrink, memory.path_interval),
            "inpainting": (
                "inpainting.diversity_batch_shrink",
                inpainting.diversity_batch_shrink,
                inpainting.diversity_weight,
            ),
        }[stage.name]
        if used and accumulation > 1:
            check_batch(f"{key} / {shrink}", stage.batch_size // by, self.mesh, accumulation)
        say(
            f"{stage.name}: {stage.total_steps} steps of {stage.batch_size} pictures "
            f"({stage.batch_size // self.mesh.size} per device), "
            f"{stage.total_steps * stage.batch_size} pictures in all"
        )
        state = abstract_state(stage, self.config.seed, pretrained)
        weights = {**state.params, **{f"{n} (kept)": p for n, p in state.kept.items()}}
        if self.config.tensorboard:
            from gmsrm_jax.runtime.tensorboard import parameter_table

            self._detail(parameter_table(state.params))
        counts = ", ".join(f"{name} {_count(tree):,}" for name, tree in weights.items())
        say(f"{stage.name}: parameters: {counts}")
        if self.dry_run:
            size = (stage.batch_size, self.config.image_size, self.config.image_size)
            batch = {
                "image": jax.ShapeDtypeStruct((*size, 3), np.uint8),
                "mask": jax.ShapeDtypeStruct((*size, 1), np.uint8),
            }
            say_flops(stage, lower_programs(stage, state, batch, self.mesh))


def _check_pictures_are_there(config: ConfigDict, key: str) -> None:
    """Checks that config.data.train or test exists, before anything slow is done.

    Raises:
        UserError: says what to place where, and what runs without it.
    """
    spec = config.data[key]
    if spec.startswith(TFDS):
        return
    if not spec or not resolve_path(spec).exists():
        note = f"{config.data.note}; " if config.data.note else ""
        raise UserError(
            f"config.data.{key} = {spec!r} does not exist. {note}without any data set, "
            "this config with :runlocal behind it and --config=configs/demo.py run"
        )


def _count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
