"""Two runs in one workdir: the second is refused, and a dead one locks nobody out."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading

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


def test_second_run_is_refused_with_pid_host_and_time_of_the_first(tmp_path, holder):
    with pytest.raises(UserError) as error, lock_workdir(tmp_path):
        pass
    message = str(error.value)
    time = json.loads((tmp_path / ".lock").read_text())["time"]
    for word in (str(tmp_path), f"process {holder.pid} ", socket.gethostname(), time):
        assert word in message
    assert "\n" not in message


def test_lock_of_a_killed_run_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == holder.pid
    with lock_workdir(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_lock_of_another_host_is_waited_for(tmp_path, holder, monkeypatch, capsys):
    there = socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    ends = threading.Timer(0.5, holder.kill)
    ends.start()
    with lock_workdir(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["host"] == "elsewhere"
    ends.join()
    assert f"process {holder.pid} on {there}" in capsys.readouterr().err


def test_lock_of_another_host_that_lives_is_not_waited_for_for_ever(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    monkeypatch.setattr("gmsrm_jax.runtime.lock._LEASE_SECONDS", 0.5)
    with pytest.raises(UserError, match="in use by another run"), lock_workdir(tmp_path):
        pass


def test_lock_on_a_full_disk_is_one_line():
    full = pathlib.Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / ".lock").symlink_to(full)
        refused = pytest.raises(UserError, match=r"\.lock cannot be written \(")
        with refused, lock_workdir(pathlib.Path(folder)):
            pass


def test_lock_is_free_after_its_block_even_after_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), lock_workdir(tmp_path):
        raise RuntimeError("inside")
    with lock_workdir(tmp_path):
        pass


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(UserError, match=r"file/run/\.lock cannot be written")
    with refused, lock_workdir(tmp_path / "file" / "run"):
        pass
