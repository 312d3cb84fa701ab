"""manifest.jsonl: what became of each picture, one JSON object a line.

A line is written when a picture is done, whole or not at all, and always at the end of the file:
an interrupted run leaves whole lines, and a second one goes on below them. The last line of status
"ok" or "failed" about a picture is the one that counts. Fields of a line:

- time: when the picture was done, UTC.
- status: "ok"; "failed", with `error`; "skipped", its outputs were there already.
- image, mask: paths as given; mask is null where the picture's transparent part is the hole.
- image_sha256, mask_sha256: of the files' bytes.
- format, mode, width, height: file format, layout of the pixels (Pillow's names), size in pixels as
  displayed.
- hole_ratio: share of the picture that was filled, 0 to 1.
- strategy: "resize", "crop", "tile", "detail"; "none" where there was no hole.
- options: those that decide which pixels are filled, and the feather.
- seed: of the first sample.
- checkpoint, checkpoint_sha256: name and SHA-256 of the weights.
- device: platform and kind.
- seconds: from opening the picture to its outputs being written, others under way included.
- outputs: path, seed and sha256 of each file written.
- known_pixels: "kept", or "re-encoded" where the file does not hold them bit for bit.
- notes: why, and what else the file format could not hold.
- warnings: what is odd about the picture or its mask.
- error: null unless failed.

What is not known is null.
"""

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gmsrm_jax.runtime.errors import UserError

_FIELDS = (
    "time",
    "status",
    "image",
    "mask",
    "image_sha256",
    "mask_sha256",
    "format",
    "mode",
    "width",
    "height",
    "hole_ratio",
    "strategy",
    "options",
    "seed",
    "checkpoint",
    "checkpoint_sha256",
    "device",
    "seconds",
    "outputs",
    "known_pixels",
    "notes",
    "warnings",
    "error",
)
_BEGINNING = b'{"time": "'


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
        """Adds a line with these fields and the time.

        Raises:
            UserError: it cannot be written.
            KeyError: a field that is none of a manifest.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        given = {"time": now, "outputs": [], "notes": [], "warnings": [], **fields}
        unknown = sorted(given.keys() - set(_FIELDS))
        if unknown:
            raise KeyError(f"fields of no manifest: {unknown}")
        line = json.dumps({name: given.get(name) for name in _FIELDS}) + "\n"
        try:
            written = os.write(self._file, line.encode())
        except OSError as error:
            raise self._unwritable(error) from error
        if written < len(line):
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
