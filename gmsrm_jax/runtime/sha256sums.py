"""Whether the files of a folder are those that were written.

SHA256SUMS is the file that `sha256sum --check` reads.
"""

import hashlib
import pathlib
import re
from collections.abc import Mapping

from gmsrm_jax.runtime.errors import UserError, one_line
from gmsrm_jax.runtime.files import file_sha256

SUMS_FILE = "SHA256SUMS"
MAX_SUMS_BYTES = 1 << 16
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][A-Za-z0-9._-]*)")


def sums_text(files: Mapping[str, bytes]) -> bytes:
    """The text of SHA256SUMS for files given by name and contents."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()]
    return "".join(sorted(lines, key=lambda line: line[66:])).encode()


def parse_sums(text: bytes, where: str, cure: str) -> dict[str, str]:
    """Reads the text of SHA256SUMS.

    Args:
        text: of the file.
        where: its name, for messages.
        cure: what to do about a damaged one.

    Returns:
        SHA-256 (hex) by name; names are plain, without a folder.

    Raises:
        UserError: it is not such a text, or names a file twice.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in sums:
            raise UserError(
                f"{where}: line {number} is {line[:80]!r} instead of a SHA-256, two spaces and a"
                f" plain file name that no other line has; {cure}"
            )
        sums[match[2]] = match[1]
    return sums


def check_sum(data: bytes, name: str, sums: Mapping[str, str], where: str, cure: str) -> None:
    """Checks the contents of a file against SHA256SUMS.

    Raises:
        UserError: the file is not listed or has another sum.
    """
    if name not in sums:
        raise UserError(f"{where}/{SUMS_FILE}: does not list {name}; {cure}")
    found = hashlib.sha256(data).hexdigest()
    if found != sums[name]:
        raise UserError(
            f"{where}/{name}: damaged or changed, its SHA-256 is {found}, {SUMS_FILE} says"
            f" {sums[name]}; {cure}"
        )


def read_limited(path: pathlib.Path, limit: int, cure: str) -> bytes:
    """The contents of a file of at most `limit` bytes.

    Raises:
        UserError: it is missing, unreadable, larger or no file.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UserError(f"{path}: is no file; {cure}")
        if size > limit:
            raise UserError(
                f"{path}: has {size} bytes, and such a file has {limit} at most; {cure}"
            )
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {cure}") from error


def difference(folder: pathlib.Path, name: str, sha256: str, size: int | None = None) -> str:
    """What is wrong with one file of a folder.

    Args:
        folder: holds the file, itself or in a folder inside.
        name: of the file, relative to `folder`.
        sha256: it must have, hex.
        size: in bytes; None does not compare it.

    Returns:
        One line; empty if the file is what was written.
    """
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return f"{name} is not in this folder"
        found = path.stat().st_size
        if size not in (None, found):
            return f"{name} has {found} of {size} bytes"
        return "" if file_sha256(path) == sha256 else f"{name} is not what was written"
    except FileNotFoundError:
        return f"{name} is missing"
    except (OSError, ValueError) as error:
        return f"{name} cannot be read ({one_line(error)})"
