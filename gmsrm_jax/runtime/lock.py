"""A lock that keeps two trainings out of one workdir."""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import socket
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from gmsrm_jax.runtime.errors import UserError

_FILE = ".lock"
# An NFS server keeps the locks of a host that died until its lease ends, 90 s by Linux's default.
_LEASE_SECONDS = 180.0


@contextlib.contextmanager
def lock_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Holds WORKDIR/.lock, which says who holds it: pid, host and time.

    It is an advisory lock of the open file (`flock`), which the kernel takes back when the process
    ends, however it ends, so a file left by a dead process locks nobody out. On NFS (Linux, with
    its lock service) it is kept between hosts, and what may be a dead host's is waited for. A
    bucket mounted as a folder keeps it within one host at most: there, a second host is not kept
    out.

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
        _lock(file, workdir, path)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "time": now}
        try:
            file.truncate(0)
            file.write(json.dumps(holder) + "\n")
            file.flush()
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}); make room there, or change --workdir"
            ) from error
        yield


def _lock(file: TextIO, workdir: pathlib.Path, path: pathlib.Path) -> None:
    """Takes the lock; waits for one that another host holds, for that host may be dead."""
    deadline: float | None = None
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            host, holder = _holder(path)
            if deadline is None and host not in ("", socket.gethostname()):
                deadline = time.monotonic() + _LEASE_SECONDS
                print(
                    f"gmsrm: {workdir} is in use by another run ({holder}); waits up to "
                    f"{_LEASE_SECONDS:.0f} s, for a network disk keeps a dead host's lock so long",
                    file=sys.stderr,
                    flush=True,
                )
            if deadline is None or time.monotonic() > deadline:
                raise UserError(
                    f"{workdir} is in use by another run ({holder}); wait for it, stop it, or "
                    "use another --workdir"
                ) from error
        except OSError as error:
            raise UserError(
                f"{path} cannot be locked ({error.strerror}); use a --workdir on a file system "
                "with locks"
            ) from error
        time.sleep(1.0)


def _holder(path: pathlib.Path) -> tuple[str, str]:
    """Host that wrote the file, and who it was; a run that has just begun may not have written."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return holder["host"], f"process {holder['pid']} on {holder['host']} since {holder['time']}"
    except (OSError, ValueError, KeyError):
        return "", "which has just begun"
