"""manifest.jsonl: what became of each picture, one JSON object a line.

A line is written when a picture is done, whole or not at all, and always at the end of the file:
an interrupted run leaves whole lines, and a second one goes on below them. The last line about a
picture that is not of status "skipped" is the one that counts.
"""

import dataclasses
import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gmsrm_jax.runtime.errors import UserError

_BEGINNING = b'{"time": "'


@dataclasses.dataclass(kw_only=True)
class Line:
    """The fields of a line; what is not known is null."""

    time: str  # when the picture was done, UTC
    status: str  # "ok"; "copied", no hole; "failed", with `error`; "skipped", outputs were there
    image: str  # path as given
    mask: str | None = None  # likewise; null where the picture's transparent part is the hole
    image_sha256: str | None = None  # of the file's bytes
    mask_sha256: str | None = None
    format: str | None = None  # of the file, Pillow's name
    mode: str | None = None  # layout of the pixels, Pillow's name
    width: int | None = None  # as displayed, pixels
    height: int | None = None
    hole_ratio: float | None = None  # share of the picture that was filled, 0 to 1
    strategy: str | None = None  # "resize", "crop", "tile", "detail"; "none" if there was no hole
    options: dict[str, Any] | None = None  # which decide what pixels are filled, and the feather
    seed: int | None = None  # of the first sample
    checkpoint: str | None = None  # name of the weights
    checkpoint_sha256: str | None = None
    device: str | None = None  # platform and kind
    seconds: float | None = None  # from opening the picture to its outputs, others included
    outputs: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # path, seed, sha256
    known_pixels: str | None = None  # "kept", or "re-encoded": the file has not every bit of them
    notes: list[str] = dataclasses.field(default_factory=list)  # why, and what else it cannot hold
    warnings: list[str] = dataclasses.field(default_factory=list)  # what is odd
    error: str | None = None  # why it failed


class Manifest:
    """A manifest.jsonl that lines are added to, by several threads if need be."""

    def __init__(self, path: Path):
        """Opens a manifest, which is made if it is not there.

        Raises:
            UserError: it cannot be written, or is a file of another kind.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Appended as a whole by the system, also beside other processes.
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            kept = _whole_lines(self._file, path)
            if kept != os.fstat(self._file).st_size:
                os.ftruncate(self._file, kept)
        except OSError as error:
            raise self._unwritable(error) from error

    def append(self, **fields: Any) -> None:
        """Adds a line with these fields of `Line` and the time.

        Raises:
            UserError: it cannot be written.
            TypeError: a field that is none of a manifest.
        """
        line = Line(time=datetime.now(UTC).isoformat(timespec="seconds"), **fields)
        text = json.dumps(dataclasses.asdict(line)) + "\n"
        try:
            written = os.write(self._file, text.encode())
        except OSError as error:
            raise self._unwritable(error) from error
        if written < len(text):
            raise self._unwritable(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path}: cannot be written ({error.strerror}); make room or change --manifest"
        )


def _whole_lines(file: int, path: Path) -> int:
    """Returns the length without a line at the end that a full disk or a power cut has cut off."""
    size = os.fstat(file).st_size
    if not size:
        return 0
    with open(path, "rb") as text:
        if not text.readline().startswith(_BEGINNING):
            raise UserError(f"{path}: is there and no manifest; name another file by --manifest")
        text.seek(0)
        return sum(len(line) for line in text if line.endswith(b"\n"))
