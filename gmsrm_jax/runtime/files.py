"""Files whole or not at all, their SHA-256, and the user's cache folder."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from gmsrm_jax.runtime.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path`, for a file or folder that takes its place at the end.

    Makes missing folders. Whatever fails, nothing is left behind, and `path` is as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Random, since process numbers repeat between machines that share a disk; without the target's
    # name, which can be as long as a name may be.
    mark = secrets.token_hex(8)
    temporary, old = (target.with_name(f".{mark}.{end}") for end in ("tmp", "old"))
    try:
        yield temporary
        if temporary.is_dir() and target.exists():  # rename(2) refuses a full one
            target.rename(old)
        os.replace(temporary, target)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        for left in (temporary, old):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            left.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path` by way of a temporary file beside it; makes missing folders."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_path(path: str | os.PathLike[str], option: str = "path") -> Path:
    """A path as a person gave it, with ~ and ~NAME as the homes that they stand for.

    Args:
        path: not empty: the path of an unset variable is no one's wish for the folder here.
        option: what gave it, for messages.

    Raises:
        UserError: it is empty, or there is no such home.
    """
    if not os.fspath(path):
        raise UserError(f"{option}: is empty; name a file or folder")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{option}={path}: there is no such home; write it out, or ./{path} if it is here"
        ) from error


def real_path(path: str | os.PathLike[str]) -> Path:
    """An absolute path without links, also where they lead in a circle; it need not exist."""
    return Path(os.path.realpath(path))


def user_cache() -> Path:
    """Where things are kept between runs: $XDG_CACHE_HOME/gmsrm-jax, or ~/.cache/gmsrm-jax.

    The folder is not made.

    Raises:
        RuntimeError: the user has no home, and XDG_CACHE_HOME is not set.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gmsrm-jax"
