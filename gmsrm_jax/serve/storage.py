"""The server's own folder for files: private, swept while it runs, gone at the end.

Gradio's `delete_cache` would neither bound the bytes nor find uploads that were broken off.
"""

import contextlib
import pathlib
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator

MAX_BYTES = 2 << 30  # of all files together
_MAX_AGE = 1800.0  # seconds
_EVERY = 10.0  # seconds between sweeps


class Storage:
    """A folder that only its owner can enter (0700); names in it are made here.

    May be used from several threads.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: pathlib.Path, max_bytes: int = MAX_BYTES):
        """Takes an existing folder.

        Args:
            folder: where it is.
            max_bytes: of the files in it; of more, the oldest are swept.
        """
        self.folder, self._max_bytes = folder, max_bytes
        self._kept: frozenset[pathlib.Path] = frozenset()
        self._sweeping = threading.Lock()

    def new_folder(self) -> pathlib.Path:
        """Makes a folder with a name that nobody can guess."""
        folder = self.folder / "made" / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return folder

    def holds(self, path: str) -> bool:
        """Whether a path, as it stands, lies in the folder."""
        found = pathlib.PurePath(path)
        return found.is_relative_to(self.folder) and ".." not in found.parts

    def keep_all(self) -> None:
        """Spares what is there now from every sweep: the page's own pictures."""
        self._kept = frozenset(self.folder.rglob("*"))

    def sweep(self, max_age: float = _MAX_AGE) -> None:
        """Deletes files older than `max_age` seconds, and the oldest that there is no room for."""
        with self._sweeping:
            self._sweep(max_age)

    def _sweep(self, max_age: float) -> None:
        found = []
        for path in self.folder.rglob("*"):
            if path in self._kept:
                continue
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.is_file():
                    found.append((stat.st_mtime, stat.st_size, path))
                elif time.time() - stat.st_mtime > max_age:
                    with contextlib.suppress(OSError):  # not empty
                        path.rmdir()
        total = 0
        for modified, size, path in sorted(found, reverse=True):
            total += size
            if total > self._max_bytes or time.time() - modified > max_age:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_storage(max_bytes: int = MAX_BYTES) -> Iterator[Storage]:
    """Makes the folder, has it swept every ten seconds, and removes it in the end."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gmsrm-serve-")).resolve()
    storage = Storage(folder, max_bytes)
    over = threading.Event()

    def sweep() -> None:
        while not over.wait(_EVERY):
            # What cannot be deleted now is tried again.
            with contextlib.suppress(OSError):
                storage.sweep()

    threading.Thread(target=sweep, name="sweeper", daemon=True).start()
    try:
        yield storage
    finally:
        over.set()
        shutil.rmtree(folder, ignore_errors=True)
