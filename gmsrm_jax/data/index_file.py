"""Indexes in the user's cache folder: what the headers of a set of pictures say.

An index only saves time. One that is missing, damaged or of another version is made anew, and
where none can be kept, headers are read on every start.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmsrm_jax.data.decoding import Header
from gmsrm_jax.data.headers import Headers
from gmsrm_jax.runtime.files import user_cache, write_atomically
from gmsrm_jax.runtime.log import say
from gmsrm_jax.runtime.unreadable import UNREADABLE_NPZ

_VERSION = 2  # raised when the numbers come to mean something else
_SMALL = 512  # pictures, below which an index is not worth a file
_NO_FILE = (OSError, RuntimeError)  # the latter is Path.home's of a user without a home


@dataclass(frozen=True)
class Index:
    """What is known of N pictures, good and bad.

    Attributes:
        names: their names.
        states: int64 [N, 2], size [bytes] and time of change [ns] when they were read.
        columns: int32 [N, 4], the numbers of each `Header`; of no meaning for bad ones.
        reasons: row of each picture without a good header, and why.
    """

    names: Sequence[str]
    states: np.ndarray
    columns: np.ndarray
    reasons: dict[int, str]

    @classmethod
    def of(cls, names: Sequence[str], states: np.ndarray, found: list[Header | str]) -> "Index":
        """Makes an index of headers and of reasons why there is none."""
        columns = np.zeros((len(names), 4), np.int32)
        for row, header in enumerate(found):
            if isinstance(header, Header):
                columns[row] = header[:4]
        reasons = {row: header for row, header in enumerate(found) if isinstance(header, str)}
        return cls(names, states, columns, reasons)

    @property
    def good(self) -> np.ndarray:
        """Rows of the pictures with good headers, ascending."""
        return np.delete(np.arange(len(self.names)), list(self.reasons))

    @property
    def bad(self) -> dict[str, str]:
        """Name of each bad picture, and why it is bad."""
        return {self.names[row]: reason for row, reason in self.reasons.items()}

    @property
    def headers(self) -> Headers:
        """Headers of the good pictures."""
        codec, orientation, height, width = self.columns[self.good].T
        return Headers(codec.astype(np.uint8), orientation.astype(np.uint8), height, width)


def read_index(key: str) -> Index | None:
    """Returns the index kept under a key, None if there is none that can be used."""
    try:
        with np.load(_path(key), allow_pickle=False) as file:
            if int(file["version"]) != _VERSION:
                return None
            names, reasons = (
                bytes(file[field]).decode("utf-8", "surrogateescape").split("\0")
                for field in ("names", "reasons")
            )
            bad = file["bad"].tolist()
            by_row = dict(zip(bad, reasons, strict=True)) if bad else {}
            return Index(names, file["states"], file["columns"], by_row)
    except (*UNREADABLE_NPZ, RuntimeError):
        return None


def write_index(key: str, index: Index) -> None:
    """Keeps an index under a key; a small one is made anew as fast."""
    if len(index.names) < _SMALL:
        return
    buffer = io.BytesIO()
    np.savez(
        buffer,
        version=_VERSION,
        names=_joined(index.names),
        states=index.states,
        columns=index.columns,
        bad=np.array(list(index.reasons), np.int64),
        reasons=_joined(index.reasons.values()),
    )
    try:
        path = _path(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())
    except _NO_FILE as error:
        say(
            f"headers of {len(index.names)} pictures are read on every start, for no index can be "
            f"kept ({error}); set XDG_CACHE_HOME to a folder that can be written"
        )


def _path(key: str) -> Path:
    """Returns an index's file in the user's cache folder."""
    digest = hashlib.sha256(os.fsencode(key)).hexdigest()
    return user_cache() / f"index-{digest[:32]}.npz"


def _joined(words: Iterable[str]) -> np.ndarray:
    return np.frombuffer("\0".join(words).encode("utf-8", "surrogateescape"), np.uint8)
