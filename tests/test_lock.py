"""Two runs in one workdir: the second is refused, and a dead one locks nobody out."""

import errno
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.lock import lock_workdir

HOLDER = """
import pathlib, sys, time
from gmsrm_jax.runtime.lock import lock_workdir
with lock_workdir(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_second_run_is_refused_with_pid_host_time_and_command_of_the_first(tmp_path, holder):
    with pytest.raises(UserError) as error, lock_workdir(tmp_path):
        pass
    message = str(error.value)
    time = json.loads((tmp_path / ".lock.json").read_text())["time"]
    command = f"-c {tmp_path}"
    for word in (str(tmp_path), f"process {holder.pid} ", socket.gethostname(), time, command):
        assert word in message
    assert "\n" not in message


def test_lock_of_a_killed_run_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == holder.pid
    with lock_workdir(tmp_path):
        assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == os.getpid()


def test_lock_on_a_full_disk_is_one_line():
    full = pathlib.Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / ".lock.json").symlink_to(full)
        refused = pytest.raises(UserError, match=r"cannot be locked \(No space left")
        with refused, lock_workdir(pathlib.Path(folder)):
            pass


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_folder_that_is_for_reading_only_is_one_line(tmp_path, monkeypatch, number):
    """A system call that fails, for a superuser may write wherever a disk can be written."""

    def refuse(path, flags, *rest, **options):
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            raise OSError(number, os.strerror(number), path)
        return opened(path, flags, *rest, **options)

    opened = os.open
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError) as error, lock_workdir(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked ({os.strerror(number)}); " in str(error.value)
    assert "\n" not in str(error.value)


def test_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match="on a file system with locks"), lock_workdir(tmp_path):
        pass


def test_lock_is_refused_within_a_process_too(tmp_path):
    with lock_workdir(tmp_path):
        refused = pytest.raises(UserError, match=f"process {os.getpid()} on ")
        with refused, lock_workdir(tmp_path):
            pass


def test_lock_is_free_after_its_block_even_after_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), lock_workdir(tmp_path):
        raise RuntimeError("inside")
    with lock_workdir(tmp_path):
        pass


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(UserError, match=r"file/run cannot be locked \(Not a directory")
    with refused, lock_workdir(tmp_path / "file" / "run"):
        pass
