"""The steps in a folder of checkpoints: which are whole, and what is done with the others.

A checkpoint is a folder named by its step. Its manifest, of all files with sizes and SHA-256, is
written last, so that a step with a manifest was saved whole; whether it still is what was saved,
`problems` tells. Everything here is plain files, without JAX or Orbax: one process decides.
"""

import contextlib
import json
import logging
import os
import pathlib
import shutil

from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError, one_line
from gmsrm_jax.runtime.files import file_sha256, replacing
from gmsrm_jax.runtime.sha256sums import difference

MANIFEST = "manifest.json"
_FORMAT = 1
_TO_KEEP = 2
_REMOVING = "removing"
_LOGGER = logging.getLogger("gmsrm")


def step_folders(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """The checkpoints in a folder by step, in ascending order, with or without a manifest."""
    if not folder.is_dir():
        return {}
    found = {
        int(path.name): path
        for path in folder.iterdir()
        if path.name.isascii() and path.name.isdigit() and path.is_dir()
    }
    return dict(sorted(found.items()))


def saved_steps(folder: pathlib.Path) -> list[int]:
    """The steps that were saved whole, in ascending order; their files are not looked at."""
    return [step for step, path in step_folders(folder).items() if has_manifest(path)]


def tidy(folder: pathlib.Path) -> None:
    """Sets aside aloud what was not saved whole, and ends removals that a kill cut off.

    A training does this before it looks for its newest checkpoint.
    """
    folders, saved = step_folders(folder), saved_steps(folder)
    unfinished = [step for step in folders if step not in saved]
    for path in folder.glob(f"*.{_REMOVING}*"):
        shutil.rmtree(path)
    for step in unfinished:
        path = folders[step]
        aside = _set_aside(path, "unfinished")
        older = [other for other in saved if other < step]
        before = f"step {older[-1]}" if older else "the start, for there is none before it"
        _LOGGER.warning(
            f"{path} has no {MANIFEST}: the run was killed before its save was complete; "
            f"it is now {aside.name}, training goes on from {before}"
        )
    remove_older(folder)


def remove_older(folder: pathlib.Path) -> None:
    """Removes all but the two newest steps that were saved whole."""
    for step in saved_steps(folder)[:-_TO_KEEP]:
        # Renamed first, so that no part of it ever passes for a step.
        shutil.rmtree(_set_aside(folder / str(step), _REMOVING))


def newest_good(folder: pathlib.Path, known: set[int], read_only: bool) -> int | None:
    """Step of the newest checkpoint whose files are all as they were written; None: none is saved.

    Broken ones that are newer are named aloud.

    Args:
        folder: of checkpoints.
        known: steps that were found good before; what is found here is added.
        read_only: do not rename broken ones to "STEP.broken", which frees their numbers.

    Raises:
        UserError: every checkpoint is broken.
    """
    broken: dict[int, str] = {}
    good = None
    while good is None:
        # Anew each time: beside a training, newer ones come and older ones go.
        steps = [step for step in saved_steps(folder) if step not in broken]
        if not steps:
            break
        path = folder / str(steps[-1])
        wrong = what_is_wrong(path, known)
        if not wrong:
            good = steps[-1]
        elif has_manifest(path):
            broken[steps[-1]] = wrong
    if good is None and broken:
        listed = "; ".join(f"{step}: {wrong}" for step, wrong in broken.items())
        raise UserError(
            f"{folder}: every checkpoint is broken ({listed}); put them back from a copy, or "
            "remove this folder to train this stage from its start"
        )
    for step, wrong in broken.items():
        path, note = folder / str(step), ""
        if not read_only:
            note = f"it is now {_set_aside(path, 'broken').name}, "
        _LOGGER.warning(f"{path} is broken ({wrong}); {note}step {good} is taken")
    return good


def what_is_wrong(path: pathlib.Path, known: set[int]) -> str:
    """What is wrong with a step's files, or nothing; those of `known` steps are not read again."""
    if int(path.name) in known:
        return ""
    found = problems(path)
    if not found:
        known.add(int(path.name))
        return ""
    more = len(found) - 1
    return f"{found[0]}; {count_of(more, 'more file')}" if more else found[0]


def has_manifest(step: pathlib.Path) -> bool:
    """Whether a step was saved whole."""
    return (step / MANIFEST).is_file()


def write_manifest(step: pathlib.Path) -> None:
    """Writes the manifest of a step whose files are all there, and sees it onto the disk."""
    files = {
        path.relative_to(step).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(step.rglob("*"))
        if path.is_file()
    }
    text = json.dumps({"format": _FORMAT, "files": files}, indent=1)
    with replacing(step / MANIFEST) as temporary, temporary.open("w", encoding="ascii") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    for folder in (step, step.parent):
        _sync_folder(folder)


def problems(step: pathlib.Path) -> list[str]:
    """What is wrong with a step's files, one text for each file; nothing if it is whole.

    Files beside those of the manifest are not looked at: no program reads them.
    """
    path = step / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]
    except (OSError, ValueError) as error:
        return [f"{MANIFEST} cannot be read ({one_line(error)})"]
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not files or not isinstance(files, dict) or manifest.get("format") != _FORMAT:
        return [f"{MANIFEST} is not a manifest of format {_FORMAT}"]
    checked = [
        difference(step, name, facts["sha256"], facts["bytes"])
        if isinstance(facts, dict) and facts.keys() == {"bytes", "sha256"}
        else f"{MANIFEST} has not the size and SHA-256 of {name}"
        for name, facts in files.items()
    ]
    return [wrong for wrong in checked if wrong]


def _sync_folder(folder: pathlib.Path) -> None:
    """Sees the names in a folder onto the disk, where the file system knows how."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(number)
    finally:
        os.close(number)


def _set_aside(path: pathlib.Path, why: str) -> pathlib.Path:
    """Renames a step to "STEP.why", so that its number is free again; returns the new path."""
    target, number = path.with_name(f"{path.name}.{why}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{why}{number}")
    path.rename(target)
    _sync_folder(path.parent)
    return target
