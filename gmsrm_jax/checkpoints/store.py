"""Saving and restoring a stage's state; the only module that knows Orbax.

Each checkpoint has one item for each part of the state, so that evaluation reads the averaged
weights alone, and stage 2 reads stage 1's snapshot alone. Saves go on in the background. Orbax
writes to a temporary name and renames, so a killed save leaves the earlier checkpoints as they
were; then process 0 adds a manifest of all files (`steps`), and removes all but the
two newest. A step without a manifest was not saved whole and is not used, nor is a step whose files
are no longer those of its manifest.

Folders are on a local or a mounted file system, which all processes of a run share; bucket
addresses such as gs:// work where they are mounted as folders. What depends on the disk is decided
by process 0 and done by all, so every process must make the same calls, but for `latest` and
`finish`.
"""

import concurrent.futures
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gmsrm_jax.checkpoints.steps import (
    MANIFEST,
    newest_good,
    remove_older,
    saved_steps,
    step_folders,
    tidy,
    what_is_wrong,
    write_manifest,
)
from gmsrm_jax.methods.base import ITEMS, TrainState
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.processes import from_process_0

# So long do processes wait for one that cannot finish its part of a save; Orbax's own is double.
_PATIENCE_SECONDS = 600


def checkpoint_folder(workdir: pathlib.Path, stage_name: str) -> pathlib.Path:
    """Where a stage keeps its checkpoints."""
    return workdir / stage_name / "checkpoints"


class Checkpoints:
    """The checkpoints of one stage in one folder, by step."""

    def __init__(self, folder: pathlib.Path, read_only: bool = False):
        """Opens the folder.

        Opened for training, it is tidied first: a step that was not saved whole is renamed to
        "STEP.unfinished", and what a killed removal left of older steps is removed; both are said.

        Args:
            folder: made if it is missing, unless read only.
            read_only: write and clean up nothing, as beside a run that is saving there.
        """
        self.folder = folder
        self._read_only = read_only
        self._known: set[int] = set()  # steps whose files were found good
        self._saver = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._saving: concurrent.futures.Future[None] | None = None
        self._step = 0  # of the last save
        self._closed = False
        if not read_only:
            from_process_0(lambda: tidy(folder))
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                # No preservation policy: Orbax would remove an older step before the new one has
                # its manifest.
                save_decision_policy=ocp.checkpoint_managers.FixedIntervalPolicy(1),
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                create=not read_only,
                async_options=ocp.options.AsyncOptions(timeout_secs=_PATIENCE_SECONDS),
                # Another process's view of a network disk may be older than process 0's.
                single_host_load_and_broadcast=True,
            ),
            item_handlers={item: ocp.StandardCheckpointHandler() for item in ITEMS},
        )

    def latest(self) -> int | None:
        """Step of the newest checkpoint that was saved whole, or None; a look at its folder.

        Waits for a save that is going on. Only reading finds out whether the files are good.
        """
        if self._saving is not None:
            concurrent.futures.wait([self._saving])
        return max(saved_steps(self.folder), default=None)

    def newest(self) -> str:
        """Says which checkpoint a run would go on from now, by a look at the folder."""
        newest = max(saved_steps(self.folder), default=None)
        if newest is None:
            return "no checkpoint is saved"
        return f"the newest good checkpoint is step {newest}"

    def save(self, state: TrainState) -> int:
        """Saves the whole state; the write goes on in the background. Returns the step.

        A step that is saved already is not saved again.

        Raises:
            UserError: it cannot begin, or the save before it failed, as on a full disk; the earlier
                checkpoints are as they were.
        """
        step = int(state.step)
        items = {
            name: getattr(state, name) for name in ITEMS if jax.tree.leaves(getattr(state, name))
        }
        try:
            from_process_0(self._complete_save)
        except UserError:
            self._saving = None  # what followed from it in this process is not said as well
            raise
        self._complete_save()
        if step == self._manager.latest_step():
            return step
        args = ocp.args.Composite(**{n: ocp.args.StandardSave(item) for n, item in items.items()})
        self._step = step
        try:
            self._manager.save(step, args=args)
        except (OSError, ValueError) as error:
            raise self._not_saved(error) from error
        self._saving = self._saver.submit(self._finish_save, step)
        return step

    def restore(self, step: int, target: TrainState, sharding: jax.sharding.Sharding) -> TrainState:
        """Restores a whole state; see `restore_items`.

        Args:
            step: a saved step.
            target: the state's shapes, from `jax.eval_shape`.
            sharding: where every array goes.
        """
        parts = {name: getattr(target, name) for name in ITEMS}
        restored = self.restore_items(step, parts, sharding)
        place = jax.jit(lambda: jnp.asarray(step, jnp.int32), out_shardings=sharding)
        return target.replace(step=place(), **restored)

    def restore_items(
        self, step: int, targets: dict[str, Any], sharding: jax.sharding.Sharding
    ) -> dict[str, Any]:
        """Restores some items of a checkpoint, such as "average" and "kept".

        Raises:
            UserError: the checkpoint is broken, or holds something else than the config describes:
                other names, shapes or dtypes, which nothing casts.
        """

        def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        wrong = from_process_0(lambda: what_is_wrong(self.folder / str(step), self._known))
        if wrong:
            raise UserError(
                f"{self.folder}/{step} is broken ({wrong}); put it back from a copy, or remove "
                "this folder to take the checkpoint before it"
            )
        wanted = {name: t for name, t in targets.items() if jax.tree.leaves(t)}
        # Orbax would cast dtypes unsaid.
        self.check_arrays(step, self.shapes(step, tuple(wanted)), wanted)
        items = {
            name: ocp.args.StandardRestore(jax.tree.map(placed, target))
            for name, target in wanted.items()
        }
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except (OSError, ValueError) as error:
            raise self._unreadable(step, error) from error
        return {**targets, **{name: restored[name] for name in items}}

    def shapes(self, step: int, items: Sequence[str]) -> dict[str, Any]:
        """Shapes and types of some items as a checkpoint holds them, {} for one it has not.

        Raises:
            UserError: the checkpoint cannot be read.
        """
        try:
            saved = self._manager.item_metadata(step)
        except (OSError, ValueError) as error:
            raise self._unreadable(step, error) from error
        there = {name: saved[name].tree if saved.get(name) is not None else {} for name in items}

        def shape(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)

        return jax.tree.map(shape, there, is_leaf=lambda leaf: hasattr(leaf, "dtype"))

    def check_arrays(self, step: int, saved: Any, wanted: Any) -> None:
        """Compares names, shapes and dtypes with those that a config describes.

        Args:
            step: the checkpoint's, for the message.
            saved: arrays or shapes of the checkpoint.
            wanted: those of the config.

        Raises:
            UserError: they differ; names the first.
        """
        then, now = _described(saved), _described(wanted)
        different = [
            f"{name}: {then.get(name, 'nothing')} in the checkpoint, {now.get(name, 'nothing')} by "
            "the config"
            for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)
        ]
        if different:
            more = f"; and {len(different) - 1} more" if len(different) > 1 else ""
            raise UserError(
                f"{self.folder}/{step} cannot be restored with this config ({different[0]}{more}); "
                "use the config it was trained with (config.json in its workdir) or another workdir"
            )

    def newest_good(self) -> int | None:
        """Step of the newest checkpoint whose files are all as they were written, or None.

        Broken ones that are newer are named aloud and, unless read only, renamed to "STEP.broken",
        so that training can save their steps again.

        Raises:
            UserError: every checkpoint is broken.
        """
        step = from_process_0(lambda: newest_good(self.folder, self._known, self._read_only))
        if not self._read_only:
            self._manager.reload()
        return step

    def finish(self) -> None:
        """Waits until every save is on disk, and closes the folder.

        Raises:
            UserError: the last save failed, and nothing has said so yet.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._complete_save()
        finally:
            # There, Orbax does not raise again what the last save raised.
            self._saver.submit(self._manager.close).result()
            self._saver.shutdown()

    def _finish_save(self, step: int) -> None:
        self._manager.wait_until_finished()
        if jax.process_index() == 0:
            write_manifest(self.folder / str(step))
            remove_older(self.folder)

    def _complete_save(self) -> None:
        """Waits for the save that is going on, and raises what went wrong with it."""
        saving, self._saving = self._saving, None
        error = saving.exception() if saving is not None else None
        if isinstance(error, OSError | ValueError | jax.errors.JaxRuntimeError):
            raise self._not_saved(error) from error
        if error is not None:
            raise error

    def _not_saved(self, error: BaseException) -> UserError:
        return UserError(
            f"{self.folder}/{self._step} could not be saved ({_reason(error)}); {self.newest()}; "
            "make room or repair the disk, then start again to go on"
        )

    def _unreadable(self, step: int, error: BaseException) -> UserError:
        return UserError(
            f"{self.folder}/{step} cannot be read ({_reason(error)}); if a training that goes on "
            "removed it, start again to take a newer one"
        )


def open_finished(folder: pathlib.Path, cure: str) -> tuple[Checkpoints, int]:
    """Opens a folder that must have a checkpoint, for reading; returns it and its newest good step.

    Raises:
        UserError: there is no good checkpoint; says the cure.
    """
    checkpoints = Checkpoints(folder, read_only=True) if from_process_0(folder.is_dir) else None
    step = checkpoints.newest_good() if checkpoints else None
    if checkpoints is None or step is None:
        unfinished = ", ".join(map(str, step_folders(folder)))
        note = f" ({unfinished}: without {MANIFEST}, not saved whole)" if unfinished else ""
        raise UserError(f"no checkpoint in {folder}{note}; {cure}")
    return checkpoints, step


def _described(tree: Any) -> dict[str, str]:
    """Dtype and shape of every array, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "dtype"))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{np.dtype(leaf.dtype)} "
        f"{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _reason(error: BaseException) -> str:
    """What went wrong in a few words; what followed from it in other threads is left out."""
    text = ""
    cause: BaseException | None = error
    while cause is not None:
        # tensorstore's long texts hold the system's error number.
        number = re.search(r"os_error_code='(\d+)'", str(cause))
        if number:
            return os.strerror(int(number[1]))
        text, cause = " ".join(str(cause).split()), cause.__cause__ or cause.__context__
    return text[:300] or type(error).__name__
