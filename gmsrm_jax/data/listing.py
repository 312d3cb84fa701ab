"""Finds picture files, and keeps what their headers say in an index.

A folder of a million pictures is walked as a stream on every start; headers are read once, for the
index in the user's cache folder keeps them with each file's size and time of change. Only those of
bad files are read on every start: the right to read them, say, leaves no trace in either.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmsrm_jax.data.decoding import read_header
from gmsrm_jax.data.headers import Headers, read_headers
from gmsrm_jax.data.index_file import Index, read_index, write_index
from gmsrm_jax.runtime.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Listing:
    """Picture files whose headers are good, and those whose are not.

    Attributes:
        names: relative POSIX paths of the good ones, in order.
        headers: their headers.
        bad: name and reason of the others.
    """

    names: list[str]
    headers: Headers
    bad: dict[str, str]


@dataclass(frozen=True)
class _Files:
    """Files as they were when they were listed.

    Attributes:
        names: N relative paths.
        states: int64 [N, 2], size [bytes] and time of change [ns]; -1 where they are not known.
    """

    names: list[str]
    states: np.ndarray


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Lists the pictures of a folder and its subfolders by suffix, in any case.

    Names that begin with a dot are left out, as are folders of such a name.

    Returns:
        Paths sorted by their relative POSIX path.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    return [folder / name for name in _sorted_files(folder).names]


def index_folder(folder: Path, max_pixels: int) -> Listing:
    """Lists the pictures of a folder and its subfolders with their headers.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    return _index(_sorted_files(folder), folder, folder, max_pixels)


def index_files(names: Sequence[str], root: Path, place: Path, max_pixels: int) -> Listing:
    """Returns the headers of named files.

    Args:
        names: paths relative to `root`, or absolute ones.
        root: folder that the names start from.
        place: the file that holds the names; their index is kept under its path.
        max_pixels: see `decoding.read_header`.
    """
    states = [_state(functools.partial(os.stat, root / name)) for name in names]
    return _index(_Files(list(names), np.array(states, np.int64)), root, place, max_pixels)


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


def _sorted_files(folder: Path) -> _Files:
    """Returns the pictures of a folder and its subfolders, sorted by name."""
    if not folder.is_dir():
        what = "a file" if folder.is_file() else "no such folder"
        raise UserError(f"{folder}: {what}; name the folder that holds the pictures")
    found: list[tuple[str, int, int]] = []
    others: Counter[str] = Counter()
    for name, entry in walk(folder):
        suffix = os.path.splitext(name)[1].lower()
        if suffix in SUFFIXES:
            found.append((name, *_state(entry.stat)))
        else:
            others[suffix or "no suffix"] += 1
    if not found:
        instead = ", ".join(f"{n} × {suffix}" for suffix, n in others.most_common(5)) or "no files"
        wanted = " ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise UserError(
            f"{folder}: no pictures ({wanted}) in it or its subfolders, found {instead}; "
            f"put pictures there or name another folder"
        )
    found.sort()
    return _Files([name for name, _, _ in found], np.array([rest for _, *rest in found], np.int64))


def _state(stat: Callable[[], os.stat_result]) -> tuple[int, int]:
    """Returns a file's size and time of change, -1 and -1 if it has none or is gone."""
    try:
        status = stat()
    except OSError:  # reading the header says what is wrong
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _index(files: _Files, root: Path, place: Path, max_pixels: int) -> Listing:
    """Takes headers from the index where a file has not changed, and reads the others."""
    key = f"{place.resolve()}\0{max_pixels}"
    index = read_index(key)
    same = index is not None and _unchanged(index, files)
    if index is None or not same or index.reasons:
        renewed = _renewed(index, same, files, root, max_pixels)
        if index is None or not same or renewed.reasons != index.reasons:
            write_index(key, renewed)
        index = renewed
    names = [files.names[row] for row in index.good] if index.reasons else files.names
    return Listing(names, index.headers, index.bad)


def _unchanged(index: Index, files: _Files) -> bool:
    return np.array_equal(index.states, files.states) and index.names == files.names


def _renewed(index: Index | None, same: bool, files: _Files, root: Path, max_pixels: int) -> Index:
    """Reads the headers of new, changed and bad files; `same` if the index is of these files."""
    rows = np.arange(len(files.names))
    if not same:
        before = {} if index is None else _rows(index.names, index.states)
        pairs = _rows(files.names, files.states)
        rows = np.array([before.get(file, -1) for file in pairs], np.int64)
    columns = np.zeros((len(rows), 4), np.int32)
    if index is not None:
        rows[np.isin(rows, list(index.reasons))] = -1
        columns[rows >= 0] = index.columns[rows[rows >= 0]]
    new = np.flatnonzero(rows < 0).tolist()
    read = read_headers(new, lambda row: read_header(root / files.names[row], max_pixels), root)
    fresh = Index.of([files.names[row] for row in new], files.states[new], read)
    columns[new] = fresh.columns
    reasons = {new[row]: reason for row, reason in fresh.reasons.items()}
    return Index(files.names, files.states, columns, reasons)


def _rows(names: Sequence[str], states: np.ndarray) -> dict[tuple[str, int, int], int]:
    """Returns the row of each file, by its name and state."""
    pairs = zip(names, states.tolist(), strict=True)
    return {(name, *state): row for row, (name, state) in enumerate(pairs)}
