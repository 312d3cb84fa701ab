"""Picture files in a folder and in the archives that lie there, read without unpacking anything.

Only the last part of a member's name and folders that a builder asks for are ever used, so an
archive cannot make anything be read or written elsewhere.
"""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from gmsrm_jax.data.listing import SUFFIXES, walk
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import say

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

Member = str | zipfile.ZipInfo | tarfile.TarInfo

_DAMAGED = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED = 0x1  # bit of ZipInfo.flag_bits


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
        member: its path relative to the folder, or its entry in the archive.
    """

    name: str
    container: Path
    member: Member

    @property
    def source(self) -> str:
        """Where it lies, for messages."""
        if isinstance(self.member, str):
            return str(self.container / self.member)
        name = getattr(self.member, "filename", "") or getattr(self.member, "name", "")
        return f"{self.container}: {name}"


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
    archives = []

    def add(path: str, container: Path, member: Member) -> None:
        folder, _, file = path.rpartition("/")
        if file.startswith(".") or not file.lower().endswith(SUFFIXES):
            return
        put = place(folder, file)
        if put is None:
            return
        picture = Picture(_encodable(put.name), container, member)
        earlier = found.setdefault(put.group, {}).setdefault(_encodable(put.key), picture)
        if earlier is not picture and (earlier.container == container or earlier.container != root):
            raise UserError(
                f"{picture.source} and {earlier.source} are both {put.name} of the same set; "
                "leave one of them there"
            )

    for path, entry in walk(root):
        if path.lower().endswith(ARCHIVES):
            archives.append(Path(entry.path))
        else:
            add(path, root, path)
    for archive in sorted(archives):
        say(f"{archive}: reading its table of contents")
        own_name = archive.name[: archive.name.lower().rfind(_suffix(archive))]
        for path, member in _members(archive):
            add(f"{own_name}/{path}", archive, member)
    return found


def read_pictures(pictures: Iterable[tuple[str, Picture]]) -> Iterator[tuple[str, Picture, bytes]]:
    """Reads picture files one by one, in the order in which they are stored.

    Args:
        pictures: key and picture.

    Yields:
        Key, picture and the file's bytes.

    Raises:
        UserError: an archive is damaged or cannot be read.
    """
    ordered = sorted(pictures, key=lambda item: (item[1].container, _position(item[1].member)))
    for container, group in groupby(ordered, key=lambda item: item[1].container):
        try:
            with _reader(container) as read:
                for key, picture in group:
                    yield key, picture, read(picture.member)
        except _DAMAGED as error:
            raise _damaged(container, error) from error


def _suffix(archive: Path) -> str:
    return next(suffix for suffix in ARCHIVES if archive.name.lower().endswith(suffix))


def _members(archive: Path) -> Iterator[tuple[str, Member]]:
    """Yields path and entry of every file in an archive."""
    try:
        if _suffix(archive) == ".zip":
            with zipfile.ZipFile(archive) as file:
                for info in file.infolist():
                    if not info.is_dir():
                        yield info.filename, info
        else:
            with tarfile.open(archive) as tar:
                for member in tar:
                    # A TarFile keeps every entry, gigabytes for millions of pictures.
                    tar.members.clear()  # type: ignore[attr-defined]
                    if member.isreg():
                        yield member.name, member
    except _DAMAGED as error:
        raise _damaged(archive, error) from error


@contextmanager
def _reader(container: Path) -> Iterator[Callable[[Member], bytes]]:
    """Opens a folder or archive; gives the function that reads one of its files."""
    if container.is_dir():
        yield lambda member: (container / str(member)).read_bytes()
    elif _suffix(container) == ".zip":
        with zipfile.ZipFile(container) as file:
            yield lambda member: _read_zip(file, container, member)
    else:
        with tarfile.open(container) as tar:
            yield lambda member: _read_tar(tar, member)


def _read_zip(file: zipfile.ZipFile, archive: Path, member: Member) -> bytes:
    assert isinstance(member, zipfile.ZipInfo)
    if member.flag_bits & _ENCRYPTED or member.compress_type not in _ZIP_METHODS:
        raise UserError(
            f"{archive}: {member.filename} is encrypted or packed in a way that Python cannot "
            "read; unpack the archive and remove it"
        )
    return file.read(member)


def _read_tar(tar: tarfile.TarFile, member: Member) -> bytes:
    assert isinstance(member, tarfile.TarInfo)
    stream = tar.extractfile(member)
    data = stream.read() if stream is not None else b""
    if len(data) != member.size:
        raise EOFError(f"{member.name} is cut short")
    return data


def _position(member: Member) -> tuple[int, str]:
    if isinstance(member, zipfile.ZipInfo):
        return member.header_offset, ""
    if isinstance(member, tarfile.TarInfo):
        return member.offset_data, ""
    return 0, member


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
