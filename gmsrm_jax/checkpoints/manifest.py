"""Which files a checkpoint has, with sizes and SHA-256; needs neither JAX nor Orbax.

The manifest of a step is written last, so that a step with a manifest was saved whole; whether it
still is what was saved, `problems` tells.
"""

import contextlib
import json
import os
import pathlib

from gmsrm_jax.runtime.files import file_sha256, replacing
from gmsrm_jax.runtime.sha256sums import difference, one_line

MANIFEST = "manifest.json"
_FORMAT = 1


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
        sync_folder(folder)


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


def sync_folder(folder: pathlib.Path) -> None:
    """Sees the names in a folder onto the disk, where the file system knows how."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(number)
    finally:
        os.close(number)
