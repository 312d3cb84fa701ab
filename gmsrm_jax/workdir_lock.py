"""A lock that keeps two trainings out of one workdir."""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator

from gmsrm_jax.errors import UserError

_FILE = ".lock"


@contextlib.contextmanager
def lock_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Holds WORKDIR/.lock, which says who holds it: pid, host and time.

    It is an advisory lock of the open file (`flock`), which the kernel takes back when the process
    ends, however it ends, so a file left by a dead process locks nobody out. On NFS (Linux, with
    its lock service) it is kept between hosts. A bucket mounted as a folder keeps it within one
    host at most: there, a second host is not kept out.

    Args:
        workdir: the run's folder; made if it is missing.

    Raises:
        UserError: another process holds it, which is named; or the file cannot be written.
    """
    path = workdir / _FILE
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); change --workdir") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{workdir} is in use by another run ({_holder(path)}); wait for it, stop it, or "
                "use another --workdir"
            ) from error
        except OSError as error:
            raise UserError(
                f"{path} cannot be locked ({error.strerror}); use a --workdir on a file system "
                "with locks"
            ) from error
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "time": now}
        file.truncate(0)
        file.write(json.dumps(holder) + "\n")
        file.flush()
        yield


def _holder(path: pathlib.Path) -> str:
    """Who wrote the file; whoever has just taken the lock may not have written it yet."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['time']}"
    except (OSError, ValueError, KeyError):
        return "which has just begun"
