"""Signals: every process saves at the same step and ends with 75; a second signal ends at once."""

import os
import signal
import subprocess
import sys
import time

import pytest
from toy_runs import (
    FOLDER,
    assert_same_run,
    end,
    last_state,
    lines,
    start,
    start_two,
    wait_for,
    wait_for_steps,
)

from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.runtime.signals import ECHO_SECONDS

STEPS = 60
OUTSIDE_STEPS = """
import sys, time
from gmsrm_jax.runtime.signals import exit_status

def run():
    print("up", flush=True)
    while True:
        time.sleep(0.02)

sys.exit(exit_status(run))
"""
IN_A_STEP = """
import sys, time
from gmsrm_jax.runtime.errors import Stopped
from gmsrm_jax.runtime.signals import exit_status, noticed_by_steps, signal_received

def run():
    with noticed_by_steps(lambda: "toy: no checkpoint is saved"):
        print("up", flush=True)
        while not signal_received():
            time.sleep(0.02)
        time.sleep(float(sys.argv[1]))
    raise Stopped("stopped")

sys.exit(exit_status(run))
"""


@pytest.mark.parametrize("program", ["main", "cli"])
def test_importing_a_program_starts_no_thread_that_could_take_a_signal(program):
    code = f"import os, gmsrm_jax.{program}; print(len(os.listdir('/proc/self/task')))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout == "1\n"


def latest(workdir):
    checkpoints = Checkpoints(checkpoint_folder(workdir, "toy"), read_only=True)
    step = checkpoints.latest()
    checkpoints.finish()
    return step


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    status, _, errors = end(start(workdir, STEPS, 0))
    assert (status, errors) == (0, "")
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_ends_with_75_and_the_same_command_goes_on_exactly(
    whole, tmp_path, number
):
    process = start(tmp_path, STEPS, 0.1)
    wait_for_steps(process, tmp_path)
    process.send_signal(number)
    status, output, errors = end(process)
    stopped = latest(tmp_path)
    assert status == 75
    assert 0 < stopped < STEPS
    assert f"toy: stopped by a signal, and saved; the same command goes on from step {stopped}" in (
        output
    )
    assert f"{number.name}: stops after the running step" in errors
    assert lines(tmp_path)[-1]["step"] == stopped  # means of its last steps are not lost
    status, output, _ = end(start(tmp_path, STEPS, 0))
    assert status == 0
    assert f"resuming at step {stopped} of {STEPS}" in output
    assert_same_run(tmp_path, whole, STEPS)


def run_program(code, *arguments):
    """Starts a program of this file, and waits until it is up."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(process, "up")
    return process


@pytest.mark.parametrize(
    ("first", "second", "pause", "expected"),
    [
        (signal.SIGTERM, signal.SIGTERM, 0.3, 75),  # as schedulers and wrappers send it twice
        (signal.SIGINT, signal.SIGINT, ECHO_SECONDS + 0.2, 130),
        (signal.SIGINT, signal.SIGTERM, 0.0, 143),
    ],
)
def test_second_signal_ends_at_once_unless_it_is_the_first_sent_twice(
    first, second, pause, expected
):
    process = run_program(IN_A_STEP, 1.0 if expected == 75 else 60.0)
    process.send_signal(first)
    assert process.stderr.readline().startswith(
        f"gmsrm: {first.name}: stops after the running step"
    )
    time.sleep(pause)
    process.send_signal(second)
    status, _, errors = end(process)
    assert status == expected
    if expected == 75:
        assert errors == ""
    else:
        assert errors == (
            f"gmsrm: {second.name} as a second signal: ended at once; toy: no checkpoint is saved"
        )


@pytest.mark.slow
def test_second_signal_leaves_the_checkpoints_whole_and_names_the_newest(tmp_path):
    process = start(tmp_path, STEPS, 0.5)
    wait_for_steps(process, tmp_path)
    process.send_signal(signal.SIGINT)
    assert "SIGINT" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    status, output, errors = end(process)
    newest = latest(tmp_path)
    says = f"toy: the newest good checkpoint is step {newest}" if newest else "no checkpoint is"
    assert status == 143
    assert says in errors
    assert "stopped by a signal" not in output


@pytest.mark.slow
def test_signal_during_a_validation_does_not_wait_for_it_and_the_next_start_makes_it_up(
    whole, tmp_path
):
    process = start(tmp_path, STEPS, 0, TOY_VALIDATION_SECONDS=60)
    wait_for(process, "validating")
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    status, _, errors = end(process)
    assert status == 75, errors
    assert time.monotonic() - sent < 30
    assert latest(tmp_path) == 4
    assert "validation/score" not in lines(tmp_path)[-1]
    assert end(start(tmp_path, STEPS, 0))[0] == 0
    assert_same_run(tmp_path, whole, STEPS)
    assert lines(tmp_path)[:2] == lines(whole)[:2]
    assert (tmp_path / "toy" / "panels" / "square_00000004.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signal_before_the_first_step_ends_with_nothing_to_save(tmp_path, number, expected):
    process = start(tmp_path, STEPS, 0)
    wait_for(process, "compiling")
    process.send_signal(number)
    status, _, errors = end(process)
    # The programs are small: the signal can come when they are compiled.
    assert status == expected or (status == 75 and latest(tmp_path) > 0)
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory):
    """An uninterrupted run of two processes."""
    workdir = tmp_path_factory.mktemp("whole_of_two")
    assert [end(process)[0] for process in start_two(workdir, STEPS, 0)] == [0, 0]
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("target", [0, 1])
def test_signal_to_one_of_two_processes_stops_both_after_the_same_step(
    whole_of_two, tmp_path, target
):
    both = start_two(tmp_path, STEPS, 0.1)
    wait_for(both[0], "compiled in")
    both[target].send_signal(signal.SIGTERM)
    ends = [end(process) for process in both]
    assert [status for status, *_ in ends] == [75, 75]
    stopped = latest(tmp_path)
    assert int(last_state(tmp_path, stopped).step) == stopped < STEPS
    assert [end(process)[0] for process in start_two(tmp_path, STEPS, 0)] == [0, 0]
    assert_same_run(tmp_path, whole_of_two, STEPS)


@pytest.mark.slow
def test_signal_during_the_last_save_ends_with_it_whole(tmp_path):
    # Longer than a process is given that a signal ends outside the steps.
    process = start(tmp_path, STEPS, 0, TOY_LAST_SAVE_SECONDS=8)
    wait_for(process, "saving the last step")
    process.send_signal(signal.SIGTERM)
    status, _, errors = end(process)
    assert (status, latest(tmp_path)) == (75, STEPS)
    assert "Traceback" not in errors


def test_sigterm_ends_a_job_in_the_background_which_ignores_sigint():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a child inherits
    try:
        process = run_program(OUTSIDE_STEPS)
    finally:
        signal.signal(signal.SIGINT, before)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    status, _, errors = end(process)
    assert status == 75
    assert errors.startswith("gmsrm: stopped; ")


def test_signal_while_the_main_thread_cannot_be_interrupted_is_answered():
    # As in a compilation: a call of C that returns to Python long after. It says itself that it is
    # up: said before the call, the signal could come before it too.
    program = (
        "import ctypes, sys\nfrom gmsrm_jax.runtime.signals import exit_status\n"
        "def work():\n    ctypes.CDLL(None).system(b'echo up; exec sleep 30 >&- 2>&-')\n"
        "sys.exit(exit_status(work))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(process, "up")
    process.send_signal(signal.SIGINT)
    status, _, errors = end(process)
    assert status == 130
    assert errors.startswith("gmsrm: stopped; ")


@pytest.mark.parametrize(
    "program",
    [
        "from gmsrm_jax.runtime.signals import exit_status\nsys.exit(exit_status(work))",
        "from gmsrm_jax import cli\nfrom gmsrm_jax.commands import doctor\n"
        "doctor.run = lambda _: work()\n"
        "sys.argv = ['gmsrm', 'doctor']\ncli.entry_point()",
    ],
    ids=["training", "command"],
)
def test_ctrl_c_at_the_end_of_an_object_is_answered_without_a_traceback(program):
    work = (
        "import sys, time\n"
        "def wait():\n    for _ in range(500):\n        time.sleep(0.02)\n"
        "class Last:\n    def __del__(self):\n        print('up', flush=True)\n        wait()\n"
        "def work():\n    Last()\n    wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", work + program],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(process, "up")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    status, _, errors = end(process)
    assert status == 130
    assert errors.startswith("gmsrm: stopped; ") and len(errors.splitlines()) == 1
    # Before those who wait for what cannot be interrupted give up.
    assert time.monotonic() - began < 4


@pytest.mark.slow
def test_pause_of_a_process_that_is_alone_is_no_death(tmp_path):
    process = start(tmp_path, STEPS, 0.1, GMSRM_HEARTBEAT_TIMEOUT=10)
    wait_for_steps(process, tmp_path)
    process.send_signal(signal.SIGSTOP)
    time.sleep(24)
    process.send_signal(signal.SIGCONT)
    assert end(process)[0] == 0
    assert latest(tmp_path) == STEPS
