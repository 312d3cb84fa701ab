"""Several processes of one training: finding each other, agreeing, losing one."""

import os
import subprocess
import sys
import time

import pytest
from toy_runs import FOLDER, assert_same_run, end, lines, start, start_two, wait_for

from gmsrm_jax.data.bad_pictures import BadPictures
from gmsrm_jax.runtime.errors import UserError

STEPS = 12
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "127.0.0.1",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1",
}


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A run in one process with four devices."""
    workdir = tmp_path_factory.mktemp("one")
    assert end(start(workdir, STEPS, 0))[0] == 0
    return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run in two processes with two devices each: its workdir and how both ended."""
    workdir = tmp_path_factory.mktemp("two")
    return workdir, [end(process) for process in start_two(workdir, STEPS, 0)]


@pytest.mark.slow
def test_two_processes_learn_the_same_and_only_the_first_speaks_and_writes(one, two):
    workdir, ends = two
    assert [status for status, *_ in ends] == [0, 0]
    assert "step 12/12" in ends[0][1]
    assert ends[1][1:] == ("", "")
    # Sums over devices are taken in another order when some are in another process.
    assert_same_run(workdir, one, STEPS, rtol=1e-6)
    assert [line["step"] for line in lines(workdir)] == [3, 4, 5, 6, 8, 9, 10, 12]


@pytest.mark.slow
def test_processes_that_would_do_different_things_end_at_the_start(tmp_path):
    ends = [end(process) for process in start_two(tmp_path, (STEPS, STEPS + 1), 0)]
    for status, _, errors in ends:
        assert status == 2
        assert "process 1 has another number of steps than process 0: '13', not '12'" in errors
        assert errors.count("\n") == 0
    assert not (tmp_path / "toy").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_process_whose_partner_is_killed_ends_within_the_heartbeat(two, tmp_path, victim):
    both = start_two(tmp_path, STEPS, 0.5, GMSRM_HEARTBEAT_TIMEOUT=10)
    wait_for(both[0], "compiled in")
    time.sleep(1)
    both[victim].kill()
    killed = time.monotonic()
    status, *_ = end(both[1 - victim])
    assert status != 0
    assert time.monotonic() - killed < 10 + 60  # under load
    both[victim].communicate()
    assert [end(process)[0] for process in start_two(tmp_path, STEPS, 0)] == [0, 0]
    assert_same_run(tmp_path, two[0], STEPS)


@pytest.mark.slow
def test_loss_that_is_not_finite_ends_both_with_3(tmp_path):
    ends = [end(process) for process in start_two(tmp_path, STEPS, 0, 8)]
    for status, _, errors in ends:
        assert status == 3
        assert "loss/main is nan at step 8" in errors


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"GMSRM_NUM_PROCESSES": "2"}, ["not GMSRM_COORDINATOR, GMSRM_PROCESS_ID", "all three"]),
        ({"GMSRM_NUM_PROCESSES": "two"}, ["GMSRM_NUM_PROCESSES = 'two'", "whole number"]),
        (
            {"GMSRM_COORDINATOR": "a:1", "GMSRM_NUM_PROCESSES": "2", "GMSRM_PROCESS_ID": "2"},
            ["GMSRM_PROCESS_ID = 2", "from 0"],
        ),
        (
            {"GMSRM_COORDINATOR": "host", "GMSRM_NUM_PROCESSES": "2", "GMSRM_PROCESS_ID": "0"},
            ["GMSRM_COORDINATOR = 'host'", "host:port"],
        ),
        (
            {
                "GMSRM_COORDINATOR": "127.0.0.1:1",
                "GMSRM_NUM_PROCESSES": "2",
                "GMSRM_PROCESS_ID": "1",
                "GMSRM_START_TIMEOUT": "1",
            },
            ["nothing listens at GMSRM_COORDINATOR = 127.0.0.1:1 ", "START_TIMEOUT = 1 s"],
        ),
        ({"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"}, ["Number of processes", "GMSRM_COORDINATOR"]),
        ({"GMSRM_EXPECTED_LOCAL_DEVICES": "8"}, ["sees 4 device(s)", "_DEVICES = 8"]),
    ],
)
def test_environment_that_cannot_be_is_refused_in_one_line(environment, words):
    status, errors = initialise(environment)
    found = [line for line in errors.splitlines() if line.startswith("gmsrm: error: ")]
    assert status == 2, errors
    assert len(found) == 1
    assert "Traceback" not in errors
    for word in words:
        assert word in found[0]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"GMSRM_NUM_PROCESSES": "1"},
        {"GMSRM_EXPECTED_LOCAL_DEVICES": "4"},
        SLURM,
    ],
)
def test_environment_of_one_process(environment):
    status, errors = initialise(environment)
    assert status == 0, errors


def initialise(environment):
    """Status and standard error of a program that initialises and ends."""
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from gmsrm_jax.runtime.signals import exit_status\n"
            "def run():\n"
            "    from gmsrm_jax.runtime.processes import initialise\n"
            "    initialise()\n"
            "sys.exit(exit_status(run))",
        ],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stderr


def test_bad_pictures_of_all_processes_are_judged_in_common():
    mine = BadPictures("folder", 10, 0.2)
    mine.add("a.png", "empty")
    mine.share(lambda found: [found, {"a.png": "empty", "b.png": "damaged"}])
    assert list(mine.names) == ["a.png", "b.png"]
    mine.share(lambda found: [found, {}])
    mine.add("c.png", "empty")  # the share is exceeded, but is not judged yet
    with pytest.raises(UserError, match="3 of 10 pictures cannot be used"):
        mine.share(lambda found: [found, {}])
    theirs = BadPictures("folder", 10, 0.2)
    with pytest.raises(UserError, match="3 of 10 pictures cannot be used"):
        theirs.share(lambda found: [dict.fromkeys("abc", "empty"), found])
