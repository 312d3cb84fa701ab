"""A lock that keeps two trainings out of one workdir."""

import contextlib
import datetime
import json
import os
import pathlib
import shlex
import socket
import sys
from collections.abc import Iterator

import filelock

from gmsrm_jax.runtime.errors import UserError

_LOCK, _HOLDER = ".lock", ".lock.json"


@contextlib.contextmanager
def lock_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Holds WORKDIR/.lock; .lock.json beside it says who does: pid, host, time and command.

    The kernel takes an advisory lock back when its process ends, however it ends, so files left by
    a dead process lock nobody out; an NFS server takes a dead host's back when its lease ends. A
    bucket mounted as a folder keeps it within one host at most: there, a second host is not kept
    out.

    Args:
        workdir: the run's folder; made if it is missing.

    Raises:
        UserError: another process holds it, which is named; or the files cannot be written.
    """
    path, about = workdir / _LOCK, workdir / _HOLDER
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
    }
    # Without the package's fallback, whose lock of a killed process would stay.
    lock = filelock.FileLock(path, blocking=False, fallback_to_soft=False)
    with contextlib.ExitStack() as held:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock)
            about.write_text(json.dumps(holder) + "\n", encoding="utf-8")
        except filelock.Timeout as error:
            raise UserError(
                f"{workdir} is in use by another run ({_holder(about)}); wait for it, stop it, or "
                "use another --workdir"
            ) from error
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"{workdir} cannot be locked ({reason}); make room there, or use a --workdir that "
                "can be written, on a file system with locks"
            ) from error
        yield


def _holder(about: pathlib.Path) -> str:
    """Who wrote the file; a run that has just begun may not have written it."""
    try:
        holder = json.loads(about.read_text(encoding="utf-8"))
        command = " ".join(holder["command"].split())[:200]
        return f"process {holder['pid']} on {holder['host']} since {holder['time']}: {command}"
    except (OSError, ValueError, KeyError):
        return "which has just begun"
