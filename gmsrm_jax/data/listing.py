"""Finds picture files in a folder."""

import functools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gmsrm_jax.data.bad_pictures import printable
from gmsrm_jax.data.formats import SUFFIXES, counted
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import say

_NO_PICTURES = [".txt", ".flist", ".md", ".csv", ".json", ".jsonl", ".html", ".log", ".npy", ".npz"]


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Lists the pictures of a folder and its subfolders by suffix, in any case.

    Names that begin with a dot are left out, as are folders of such a name. Files of kinds that are
    not read are counted by suffix, which is said, once for a folder; but for lists, tables and
    texts, which nobody takes for pictures.

    Returns:
        Paths sorted by their relative POSIX path.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    return [Path(folder, name) for name in picture_names(folder)]


def picture_names(folder: str | os.PathLike) -> list[str]:
    """Returns the sorted relative POSIX paths of the pictures that `list_images` lists.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "a file" if folder.is_file() else "no such folder"
        raise UserError(f"{folder}: {what}; name the folder that holds the pictures")
    found = []
    others: Counter[str] = Counter()
    for name in walk(folder):
        suffix = os.path.splitext(name)[1].lower()
        if suffix in SUFFIXES:
            found.append(name)
        else:
            others[suffix or "no suffix"] += 1
    if not found:
        instead = printable(counted(others)) or "no files"
        wanted = " ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise UserError(
            f"{folder}: no pictures ({wanted}) in it or its subfolders, found {instead}; "
            f"put pictures there or name another folder"
        )
    for suffix in _NO_PICTURES:
        del others[suffix]
    if others:
        total = others.total()
        files = "1 file of another kind is" if total == 1 else f"{total} files of other kinds are"
        _say_once(printable(f"{folder}: {files} not read ({counted(others)})"))
    return sorted(found)


@functools.cache
def _say_once(line: str) -> None:
    """Says a line the first time, for a run lists its folders again and again."""
    say(line)


def walk(folder: str | os.PathLike) -> Iterator[str]:
    """Yields the relative POSIX path of every visible file below a folder, as it is found.

    Links to folders are followed, but never back into a folder that holds them. Links to nothing
    are yielded, too, for the name can be that of a picture that is missed.

    Raises:
        UserError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); give the right to read it, or "
            "name another folder"
        ) from error

    for path, folders, files in os.walk(os.fspath(folder), onerror=fail, followlinks=True):
        inside = Path(path).relative_to(folder)
        above = Path(path).parents[: len(inside.parts)]
        entered = {os.path.realpath(holder) for holder in (path, *above)}
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and os.path.realpath(os.path.join(path, name)) not in entered
        ]
        prefix = f"{inside.as_posix()}/" if inside.parts else ""
        yield from (prefix + name for name in files if not name.startswith("."))
