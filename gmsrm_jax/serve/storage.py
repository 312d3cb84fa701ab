"""The server's own folder for files: private, swept while it runs, gone at the end."""

import contextlib
import pathlib
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator

_MAX_AGE = 1800.0  # seconds
_MAX_BYTES = 2 << 30
_EVERY = 60.0  # seconds between sweeps


class Storage:
    """A folder that only its owner can enter (0700); names in it are made here.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: pathlib.Path):
        """Takes an existing folder."""
        self.folder = folder
        self._kept: frozenset[pathlib.Path] = frozenset()

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

    def sweep(self, max_age: float = _MAX_AGE, max_bytes: int = _MAX_BYTES) -> None:
        """Deletes files older than `max_age` seconds, and the oldest beyond `max_bytes`."""
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
            if total > max_bytes or time.time() - modified > max_age:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_storage() -> Iterator[Storage]:
    """Makes the folder, has it swept every minute, and removes it in the end."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gmsrm-serve-")).resolve()
    storage = Storage(folder)
    over = threading.Event()

    def sweep() -> None:
        while not over.wait(_EVERY):
            storage.sweep()

    threading.Thread(target=sweep, name="sweeper", daemon=True).start()
    try:
        yield storage
    finally:
        over.set()
        shutil.rmtree(folder, ignore_errors=True)
