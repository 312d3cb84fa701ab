"""Picture files in a folder and in the archives that lie there, read without unpacking anything.

Only the last part of a member's name and folders that a builder asks for are ever used, so an
archive cannot make anything be read or written elsewhere.
"""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gmsrm_jax.data.formats import SUFFIXES
from gmsrm_jax.data.listing import walk
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import say

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

_DAMAGED = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


class Place(NamedTuple):
    """Where a picture belongs.

    Attributes:
        group: such as a category.
        key: tells it from all others of the group, whatever holds the file.
        name: what it is called in the prepared set.
    """

    group: str
    key: str
    name: str


class Picture(NamedTuple):
    """A picture file.

    Attributes:
        name: what it is called in the prepared set.
        container: the folder or archive that holds it.
        member: its path there.
    """

    name: str
    container: Path
    member: str


Found = dict[str, dict[str, Picture]]  # by group and key


def find_pictures(root: Path, place: Callable[[str, str], Place | None]) -> Found:
    """Finds pictures in a folder, its subfolders, and the archives in them (`ARCHIVES`).

    A file that is there both unpacked and in an archive is taken from the folder.

    Args:
        root: the folder.
        place: maps a file's folder and last name to its place, or to None if it is not wanted.
            The folder is relative to `root`; in an archive it begins with the archive's own name
            without suffix.

    Raises:
        UserError: an archive is damaged, or two files claim one place.
    """
    found: Found = {}
    archives = [root / name for name in sorted(walk(root)) if _suffix(name)]
    for container in (root, *archives):
        if container != root:
            say(f"{container}: reading its table of contents")
        own_name = container.name.removesuffix(_suffix(container.name))
        for member, _ in _members(container):
            path = member if container == root else f"{own_name}/{member}"
            folder, _, file = path.rpartition("/")
            if file.startswith(".") or not file.lower().endswith(tuple(SUFFIXES)):
                continue
            put = place(folder, file)
            if put is None:
                continue
            picture = Picture(_encodable(put.name), container, member)
            earlier = found.setdefault(put.group, {}).setdefault(_encodable(put.key), picture)
            if earlier is not picture and earlier.container in (container, *archives):
                raise UserError(
                    f"{container}: {member} and {earlier.container}: {earlier.member} are both "
                    f"{put.name} of the same set; leave one of them there"
                )
    return found


def read_pictures(pictures: Mapping[str, Picture]) -> Iterator[tuple[str, Picture, bytes]]:
    """Reads picture files one by one, in the order in which they are stored.

    Args:
        pictures: by key.

    Yields:
        Key, picture and the file's bytes.

    Raises:
        UserError: an archive is damaged or cannot be read.
    """
    keys = {(picture.container, picture.member): key for key, picture in pictures.items()}
    for container in sorted({container for container, _ in keys}):
        for member, read in _members(container):
            key = keys.get((container, member))
            if key is None:
                continue
            try:
                yield key, pictures[key], read()
            except _DAMAGED as error:
                raise _damaged(container, error) from error
            except RuntimeError as error:  # zipfile's, of a password or a method that it lacks
                raise UserError(f"{container}: {error}; unpack it and remove it") from error


def _suffix(name: str) -> str:
    """Returns the suffix of an archive's name, as it is written there; "" for other files."""
    found = next((suffix for suffix in ARCHIVES if name.lower().endswith(suffix)), "")
    return name[len(name) - len(found) :]


def _members(container: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yields every file of a folder or archive: its path there, and how to read it at once."""
    try:
        if container.is_dir():
            for name in walk(container):
                yield name, (container / name).read_bytes
        elif container.suffix.lower() == ".zip":
            with zipfile.ZipFile(container) as file:
                for info in file.infolist():
                    if not info.is_dir():
                        yield info.filename, partial(file.read, info.filename)
        else:
            with tarfile.open(container) as tar:
                for member in tar:
                    # A TarFile keeps every entry, gigabytes for millions of pictures.
                    tar.members.clear()  # type: ignore[attr-defined]
                    stream = tar.extractfile(member) if member.isreg() else None
                    if stream is not None:
                        yield member.name, stream.read
    except _DAMAGED as error:
        raise _damaged(container, error) from error


def _damaged(container: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.strerror:
        return UserError(
            f"{error.filename or container}: cannot be read ({error.strerror}); give the right to "
            "read it, or get it again"
        )
    return UserError(f"{container}: cannot be read to its end ({error}); get the file again")


def _encodable(name: str) -> str:
    """Returns a name that can be stored as UTF-8, the same if it can be already."""
    return os.fsencode(name).decode("utf-8", "replace")
