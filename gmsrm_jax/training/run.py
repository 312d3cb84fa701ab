"""A whole training: the stages of a config's method, each run once in a workdir."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import gmsrm_jax
from gmsrm_jax.assets import resolve_path
from gmsrm_jax.checkpoints.store import checkpoint_folder, open_finished
from gmsrm_jax.config.of_run import (
    check_config_of_run,
    config_sha256,
    config_text,
    remember_config,
)
from gmsrm_jax.data.loading import open_data
from gmsrm_jax.data.sources import TFDS
from gmsrm_jax.data.training_data import TrainingData
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, StageSpec
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.networks.folder import Pretrained
from gmsrm_jax.networks.workdir import trained_variables
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.devices import check_batch, data_mesh
from gmsrm_jax.runtime.errors import Stopped, UserError
from gmsrm_jax.runtime.lock import lock_workdir
from gmsrm_jax.runtime.log import format_seconds, note, open_text_log, say, writing
from gmsrm_jax.runtime.processes import check_agreement, everywhere, from_process_0, gather
from gmsrm_jax.runtime.signals import noticed_by_steps, signal_received
from gmsrm_jax.training.before_after import BEFORE_AFTER, write_before_after
from gmsrm_jax.training.forecast import bytes_of, flops_per_picture, measured_rate
from gmsrm_jax.training.handover import (
    begun,
    begun_network,
    earlier_items,
    growing_items,
    shapes_given,
    steps_done,
)
from gmsrm_jax.training.loop import abstract_state, lower_programs, train_stage

_BAD_IN_A_DRY_RUN = 3  # pictures left out that are named
_LONG_SECONDS = 24 * 3600


def train(
    config: ConfigDict,
    workdir: pathlib.Path,
    *,
    stage: str = "all",
    dry_run: bool = False,
    details: bool = False,
    earlier: Mapping[str, pathlib.Path] | None = None,
    check: Callable[[], None] | None = None,
) -> bool:
    """Trains the stages that are asked for and not finished yet.

    With several processes all of them call this, with the same arguments; process 0 writes.

    Args:
        config: the run's config.
        workdir: folder of everything that the run writes.
        stage: "all" but `earlier` ones, or the name of one.
        dry_run: say what would be done, and end.
        details: say the whole config and the tables of parameters as well.
        earlier: workdirs of stages that are finished elsewhere, by name.
        check: called by process 0 before anything is trained; raises UserError if what follows the
            training could not be done.

    Returns:
        Whether the last stage is finished, so that its network can fill.

    Raises:
        NotFinite: a loss, a gradient norm or a score is not finite.
        Stopped: a signal came while a stage was trained; everything is saved.
        UserError: something in config, data or workdir does not allow the run.
    """
    specs = _wanted(config, stage, earlier or {})
    whole = specs[-1].name == METHODS[config.method].last_stage(config)
    first, alone = jax.process_index() == 0, jax.process_count() == 1
    with contextlib.ExitStack() as opened:
        training = opened.enter_context(contextlib.ExitStack())
        if not alone:
            # Where one process ends, the others hang; so all go on to the first common step.
            training.enter_context(noticed_by_steps(lambda: "what was saved before stays"))

        def prepare() -> TrainingData:
            _check_pictures_are_there(config, "train")
            if config.data.test:
                _check_pictures_are_there(config, "test")
            data = open_data(config)
            if first:
                if not dry_run:
                    opened.enter_context(lock_workdir(workdir))
                check_config_of_run(config, workdir, data.fingerprint)
                if whole and check is not None:
                    check()
            return data

        data = everywhere(prepare)
        check_agreement(
            {
                "config (SHA-256)": config_sha256(config),
                "set of training pictures": data.fingerprint,
                "version of gmsrm_jax": gmsrm_jax.__version__,
            }
        )
        run = everywhere(lambda: Run(config, workdir, data, earlier or {}))
        # Before the workdir holds a config that a wrong name would be part of.
        run.read_networks(specs)
        everywhere(lambda: open_text_log(None if dry_run else workdir / "train.log", first))
        run.describe(specs, dry_run, details)
        if dry_run:
            return False

        def begin() -> None:
            if first:
                with writing(workdir):
                    remember_config(config, workdir, data.fingerprint)

        everywhere(begin)
        for spec in specs:
            run.train(spec)
        training.close()
        if not alone and any(gather(signal_received())):
            raise Stopped("stopped by a signal after the training")
        return whole


class Run:
    """What the stages of a run share: config, data, devices, and what each begins with."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: pathlib.Path,
        data: TrainingData,
        earlier: Mapping[str, pathlib.Path],
    ):
        """Opens the devices and the pictures kept aside, and builds every stage of the method."""
        self.config, self.workdir, self.data, self.earlier = config, workdir, data, earlier
        self.mesh: Mesh = data_mesh()
        self.context = Context(data.num_examples, data.validation())
        specs = METHODS[config.method].stages_of(config)
        self.stages = {spec.name: spec.build(self.context) for spec in specs}
        self.networks: dict[str, Pretrained] = {}

    def read_networks(self, specs: tuple[StageSpec, ...]) -> None:
        """Reads the trained networks that stages begin with; one that was begun needs none.

        Raises:
            UserError: there is none, its fields are not those of the config, or the processes read
                different weights.
        """
        for spec in specs:
            if spec.begin_from and not begun(self.workdir, spec.name):
                self.networks[spec.name] = begun_network(self.config, spec)

    def describe(self, specs: tuple[StageSpec, ...], dry_run: bool, details: bool) -> None:
        """Says what the run will do: devices, pictures, every stage, and the time it may take.

        Args:
            specs: the stages that are wanted.
            dry_run: nothing is trained after it.
            details: say the config and the tables of parameters; without it these tables go to the
                run's log file alone, and the config is what config.json holds.

        Raises:
            UserError: a batch cannot be split over the devices.
        """
        for spec in specs:  # before the first is traced, which takes longest
            for key, size in self.stages[spec.name].batches.items():
                check_batch(key, size, self.mesh, self.config.accumulation)
        say(f"workdir: {self.workdir}")
        if details:
            say(config_text(self.config))
        devices = jax.devices()
        say(
            f"devices: {len(devices)} × {devices[0].device_kind} ({devices[0].platform}), "
            f"{jax.process_count()} process{'es' * (jax.process_count() > 1)}"
        )
        say(f"data: {self.data.description}")
        if self.data.bad is not None:
            self.data.bad.say_all(_BAD_IN_A_DRY_RUN if dry_run else None)
        seconds = sum(self._describe_stage(spec, dry_run, details) for spec in specs)
        say(f"in all: about {format_seconds(seconds)} of training")
        if devices[0].platform == "cpu" and seconds > _LONG_SECONDS:
            begun_with_weights = any(spec.begin_from for spec in specs)
            other = "" if begun_with_weights else ", --config=configs/finetune.py for a first try"
            say(f"days on a CPU: use a GPU or TPU{other}, or :runlocal to see that it runs")

    def _describe_stage(self, spec: StageSpec, dry_run: bool, details: bool) -> float:
        """Says what a stage will do; returns the seconds that its steps are likely to take."""
        stage, network = self.stages[spec.name], self.networks.get(spec.name)
        if network is not None:
            say(
                f"{stage.name}: begins as {network.source}, weights SHA-256 "
                f"{network.sha256[:12]}; no stage before it is trained"
            )
        say(
            f"{stage.name}: {count_of(stage.total_steps, 'step')} of"
            f" {count_of(stage.batch_size, 'picture')} "
            f"({stage.batch_size // self.mesh.size} per device), "
            f"{count_of(stage.total_steps * stage.batch_size, 'picture')} in all"
        )
        given = shapes_given(self.config, spec, self.stages)
        state = abstract_state(stage, self.config.seed, given)
        weights = {name: tree["params"] for name, tree in state.variables.items()}
        weights |= {
            f"{name} (kept)": tree["params"]
            for name, tree in state.kept.items()
            if isinstance(tree, dict) and tree.get("params")
        }
        if self.config.tensorboard and (details or not dry_run):
            from gmsrm_jax.runtime.tensorboard import parameter_table

            (say if details else note)(parameter_table(weights))
        counts = ", ".join(f"{name} {_count(tree):,}" for name, tree in weights.items())
        say(f"{stage.name}: parameters: {counts}")
        left = stage.total_steps - steps_done(self.workdir, stage.name)
        if left <= 0:
            return 0.0
        shape = (stage.batch_size, self.config.image_size, self.config.image_size)
        batch = {
            "image": jax.ShapeDtypeStruct((*shape, 3), np.uint8),
            "mask": jax.ShapeDtypeStruct((*shape, 1), np.uint8),
        }
        guard = self.config.max_skipped_updates > 0
        flops = flops_per_picture(stage, lower_programs(stage, state, batch, self.mesh, guard))
        shown = ", ".join(f"{name} {value / 1e9:.3g}" for name, value in flops.items())
        say(f"{stage.name}: GFLOP per picture: {shown}")
        rate = measured_rate(self.mesh, self.config.compute_dtype)
        # Not every process measures the same.
        step = gather(flops["average"] * stage.batch_size / rate)[0]
        say(
            f"{stage.name}: about {step:.2g} s a step, {format_seconds(step * left)} for {left} "
            f"steps, at {rate / 1e9:,.3g} GFLOP/s"
        )
        if dry_run:
            gib = (bytes_of(state) + bytes_of(stage.constants)) / 2**30
            say(f"{stage.name}: {gib:.2g} GiB of weights and optimizers, and what a step adds")
        return step * left

    def train(self, spec: StageSpec) -> None:
        """Runs a stage to its end, handing over what it begins with.

        Behind the last one, the network that it began with is shown beside it, see `before_after`.
        """
        train_stage(
            self.stages[spec.name],
            data=self.data,
            workdir=self.workdir,
            mesh=self.mesh,
            seed=self.config.seed,
            given=self._given(spec),
            log_every=self.config.log_every,
            optimization_level=self.config.xla_optimization_level,
            tensorboard=self.config.tensorboard,
            max_skipped_updates=self.config.max_skipped_updates,
        )
        last = spec.name == METHODS[self.config.method].last_stage(self.config)
        if last and spec.begin_from:
            self._show_before_and_after(spec)

    def _show_before_and_after(self, spec: StageSpec) -> None:
        path = self.workdir / BEFORE_AFTER
        if from_process_0(path.exists):
            return
        folder = checkpoint_folder(self.workdir, spec.name)
        checkpoints, step = open_finished(folder, "train first")
        trained = trained_variables(self.config, checkpoints, step, self.mesh)
        checkpoints.finish()
        if jax.process_index() != 0:
            return
        try:
            # A stage that went on was not given the network that it had begun with.
            network = self.networks.get(spec.name) or load_pretrained(spec.begin_from)
            after = jax.device_get(trained)
            with writing(self.workdir):
                pictures = self.context.validation
                write_before_after(path, self.config, network.variables, after, pictures)
        except UserError as error:
            say(f"no {path}: {error}")

    def _given(self, spec: StageSpec) -> dict[str, Any]:
        """What `Stage.init` is given; of a stage that was begun, which is restored, the shapes."""
        given = shapes_given(self.config, spec, self.stages)
        if begun(self.workdir, spec.name):
            return given
        for name in spec.after:
            workdir = self.earlier.get(name, self.workdir)
            given[name] = earlier_items(self.config, spec, name, workdir, self.stages, self.mesh)
        if spec.begin_from:
            given["begin_from"] = self.networks[spec.name].variables
        if spec.grow_from is not None:
            given["grow_from"] = growing_items(self.config, spec, self.context, self.mesh)
        return given


def _count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def _wanted(
    config: ConfigDict, stage: str, earlier: Mapping[str, pathlib.Path]
) -> tuple[StageSpec, ...]:
    """The stages that are asked for.

    Raises:
        UserError: the config's method has no such stage.
    """
    method = METHODS[config.method]
    specs = method.stages_of(config)
    every = stage == "all"
    wanted = tuple(s for s in specs if s.name == stage or (every and s.name not in earlier))
    if not wanted:
        own = ", ".join(["all", *(spec.name for spec in specs)])
        of = f"variant {config.variant}" if config.variant else f"method {config.method}"
        begins = method.begins_from(config)
        begin = f" that begins from {begins.begin_from}" if begins else ""
        raise UserError(f"--stage={stage}: {of}{begin} has no such stage; use one of: {own}")
    return wanted


def _check_pictures_are_there(config: ConfigDict, key: str) -> None:
    """Checks that config.data.train or test exists, before anything slow is done.

    Raises:
        UserError: says what to place where, and what runs without it.
    """
    spec = config.data[key]
    if spec.startswith(TFDS):
        return
    if not spec or not resolve_path(spec).exists():
        where = f"{config.data.note}; " if config.data.note else ""
        raise UserError(
            f"config.data.{key} = {spec!r} does not exist. {where}without any data set, "
            "this config with :runlocal behind it and --config=configs/demo.py run"
        )
