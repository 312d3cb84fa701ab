"""Starts tests/toy_program.py as a person or a cluster would, and reads what it left."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from toy_stage import GIVEN, Stage

from gmsrm_jax.checkpoints.store import Checkpoints, checkpoint_folder
from gmsrm_jax.runtime.devices import data_mesh, replicated
from gmsrm_jax.runtime.log import read_log
from gmsrm_jax.training.loop import abstract_state

FOLDER = pathlib.Path(__file__).parent
# Threads of Gloo write into each other's lines.
NOISE = re.compile(r"\[Gloo\]|connected peer ranks|preemption_notifier|absl::InitializeLog")


def start(workdir, *arguments, devices=4, **environment):
    """Starts the program; arguments are those behind WORKDIR."""
    return subprocess.Popen(
        [sys.executable, str(FOLDER / "toy_program.py"), str(workdir), *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(FOLDER), str(FOLDER.parent)]),
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONUNBUFFERED": "1",
            **{name: str(value) for name, value in environment.items()},
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(workdir, *arguments, **environment):
    """Two processes with two devices each; `arguments` can hold a pair for a differing one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start(
            workdir,
            *[a[index] if isinstance(a, tuple) else a for a in arguments],
            devices=2,
            GMSRM_COORDINATOR=f"127.0.0.1:{port}",
            GMSRM_NUM_PROCESSES=2,
            GMSRM_PROCESS_ID=index,
            **environment,
        )
        for index in range(2)
    ]


def wait_for(process, text):
    """Reads the process's standard output up to a line with this text."""
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return
    raise AssertionError(f"ended without {text!r}: {read}{process.stderr.read()}")


def wait_for_steps(process, workdir):
    """Waits until the log has a line, so that training goes on."""
    while not lines(workdir):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def end(process):
    """Exit status, and what is still to be read, without what JAX's libraries write."""
    streams = process.communicate(timeout=240)
    kept = ["\n".join(line for line in s.splitlines() if not NOISE.search(line)) for s in streams]
    return process.returncode, *kept


def last_state(workdir, step):
    """The state at a step, on the host."""
    checkpoints = Checkpoints(checkpoint_folder(workdir, "toy"), read_only=True)
    target = abstract_state(Stage(), 3, GIVEN)
    state = checkpoints.restore(step, target, replicated(data_mesh()))
    checkpoints.finish()
    return jax.device_get(state)


def lines(workdir):
    """The log without what depends on the clock."""
    clock = ("seconds", "perf/images_per_second")
    log = read_log(workdir / "toy" / "log.jsonl")
    return [{k: v for k, v in line.items() if k not in clock} for line in log]


def assert_same_run(first, second, step, rtol=0.0):
    """Two workdirs with the same state and log: to the bit, or to a relative tolerance.

    Where a signal stopped a run its log has one line more: lines of the same steps are compared.
    """
    states = [jax.tree.leaves(last_state(workdir, step)) for workdir in (first, second)]
    for a, b in zip(*states, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=0)
    spans, others = by_steps(lines(first)), by_steps(lines(second))
    assert len(spans.keys() & others.keys()) >= max(len(spans), len(others)) - 2
    for steps in spans.keys() & others.keys():
        assert spans[steps] == pytest.approx(others[steps], rel=rtol, abs=0)


def by_steps(log):
    """Lines by the steps that they are means of: the last, and the last of the line before."""
    ends = [line["step"] for line in log]
    return dict(zip(zip([0, *ends[:-1]], ends, strict=True), log, strict=True))
