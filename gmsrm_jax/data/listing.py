"""Finds picture files in a folder, which is walked as a stream."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gmsrm_jax.runtime.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Lists the pictures of a folder and its subfolders by suffix, in any case.

    Names that begin with a dot are left out, as are folders of such a name.

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
    for name, _ in walk(folder):
        suffix = os.path.splitext(name)[1].lower()
        if suffix in SUFFIXES:
            found.append(name)
        else:
            others[suffix or "no suffix"] += 1
    if not found:
        instead = ", ".join(f"{n} × {suffix}" for suffix, n in others.most_common(5)) or "no files"
        wanted = " ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise UserError(
            f"{folder}: no pictures ({wanted}) in it or its subfolders, found {instead}; "
            f"put pictures there or name another folder"
        )
    return sorted(found)


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, os.DirEntry]]:
    """Yields every visible file below a folder with its relative POSIX path, as it is found.

    Links to folders are followed, but never back into a folder that holds them. Links to nothing
    are yielded, too, for the name can be that of a picture that is missed.

    Raises:
        UserError: a folder cannot be read.
    """
    pending = [("", os.fspath(folder), frozenset[tuple[int, int]]())]
    while pending:
        prefix, path, above = pending.pop()
        try:
            status = os.stat(path)
            place = (status.st_dev, status.st_ino)
            # Compared with the folders above only: with all those seen, the names of a folder that
            # two links lead to would depend on the order in which the file system lists the links.
            if place in above:
                continue
            inside = above | {place}
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        pending.append((f"{prefix}{entry.name}/", entry.path, inside))
                    elif entry.is_file() or entry.is_symlink():
                        yield prefix + entry.name, entry
        except OSError as error:
            raise UserError(
                f"{error.filename or path}: cannot be read ({error.strerror}); give the right to "
                "read it, or name another folder"
            ) from error
