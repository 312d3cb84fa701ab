"""Saving and restoring a stage's state; the only module that knows Orbax.

Each checkpoint has one item for each part of the state, so that evaluation reads the averaged
weights alone, and stage 2 reads stage 1's snapshot alone. Orbax writes to a temporary name and
renames, so a killed save leaves the earlier checkpoints as they were.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from gmsrm_jax.errors import UserError
from gmsrm_jax.stages.base import TrainState

_ITEMS = ("params", "average", "optimizer", "kept", "extra")
_TO_KEEP = 2


def checkpoint_folder(workdir: pathlib.Path, stage_name: str) -> pathlib.Path:
    """Where a stage keeps its checkpoints."""
    return workdir / stage_name / "checkpoints"


class Checkpoints:
    """The checkpoints of one stage in one folder, by step."""

    def __init__(self, folder: pathlib.Path, read_only: bool = False):
        """Opens the folder.

        Args:
            folder: made if it is missing, unless read only.
            read_only: write and clean up nothing, as beside a run that is saving there.
        """
        self.folder = folder
        policies = ocp.checkpoint_managers
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.LatestN(_TO_KEEP),
                save_decision_policy=policies.FixedIntervalPolicy(1),
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                create=not read_only,
            ),
        )

    def latest(self) -> int | None:
        """Step of the newest finished checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState) -> int:
        """Saves the whole state; the write goes on in the background. Returns the step."""
        step = int(state.step)
        items = {
            name: ocp.args.StandardSave(getattr(state, name))
            for name in _ITEMS
            if jax.tree.leaves(getattr(state, name))
        }
        self._manager.save(step, args=ocp.args.Composite(**items))
        return step

    def restore(self, step: int, target: TrainState, sharding: jax.sharding.Sharding) -> TrainState:
        """Restores a whole state.

        Args:
            step: a saved step.
            target: the state's shapes, from `jax.eval_shape`.
            sharding: where every array goes.
        """
        parts = {name: getattr(target, name) for name in _ITEMS}
        restored = self.restore_items(step, parts, sharding)
        place = jax.jit(lambda: jnp.asarray(step, jnp.int32), out_shardings=sharding)
        return target.replace(step=place(), **restored)

    def restore_items(
        self, step: int, targets: dict[str, Any], sharding: jax.sharding.Sharding
    ) -> dict[str, Any]:
        """Restores some items of a checkpoint, such as "average" and "kept".

        Raises:
            UserError: the checkpoint holds something else than the config describes.
        """

        def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        empty = {name: t for name, t in targets.items() if not jax.tree.leaves(t)}
        items = {
            name: ocp.args.StandardRestore(jax.tree.map(placed, target))
            for name, target in targets.items()
            if name not in empty
        }
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError, FileNotFoundError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{self.folder}/{step} cannot be restored with this config ({reason}); use the "
                "config it was trained with (config.json in its workdir) or another workdir; if "
                "the files are damaged, remove this folder to go on from the checkpoint before it"
            ) from error
        return {**empty, **{name: restored[name] for name in items}}

    def finish(self) -> None:
        """Waits until every save is on disk, and closes the folder."""
        self._manager.wait_until_finished()
        self._manager.close()


def open_finished(folder: pathlib.Path, cure: str) -> tuple[Checkpoints, int]:
    """Opens a folder that must have a checkpoint, for reading; returns it and its newest step.

    Raises:
        UserError: there is no checkpoint; says the cure.
    """
    checkpoints = Checkpoints(folder, read_only=True) if folder.is_dir() else None
    step = checkpoints.latest() if checkpoints else None
    if checkpoints is None or step is None:
        raise UserError(f"no checkpoint in {folder}; {cure}")
    return checkpoints, step
