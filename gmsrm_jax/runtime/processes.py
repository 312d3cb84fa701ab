"""The processes of one training: how they find each other, and agree.

Environment, read by `initialise`:

    GMSRM_COORDINATOR             host:port that process 0 listens on
    GMSRM_NUM_PROCESSES           how many processes there are
    GMSRM_PROCESS_ID              which of them this is, from 0
    GMSRM_EXPECTED_LOCAL_DEVICES  devices that this process must see; otherwise it is an error
    GMSRM_HEARTBEAT_TIMEOUT       seconds without a sign of life after which a process counts as
                                  dead and the others end (default 100)
    GMSRM_START_TIMEOUT           seconds to wait for the others at the start (default 300)
    JAX_LOCAL_DEVICE_IDS          JAX's own: the devices of the machine that this process uses

Without the first three JAX looks for a cluster (SLURM, Kubernetes, TPU, Open MPI); if there is
none, or of one process, the process is alone.
"""

import itertools
import json
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from gmsrm_jax.runtime.errors import UserError, one_line
from gmsrm_jax.runtime.signals import signal_received

_COORDINATOR, _COUNT, _ID = "GMSRM_COORDINATOR", "GMSRM_NUM_PROCESSES", "GMSRM_PROCESS_ID"
_DEVICES = "GMSRM_EXPECTED_LOCAL_DEVICES"
_HEARTBEAT, _START = "GMSRM_HEARTBEAT_TIMEOUT", "GMSRM_START_TIMEOUT"
# Process 0 evaluates while the others wait at the end, and that can take long.
_SHUTDOWN_SECONDS = 7 * 24 * 3600
# For the checks of process 0 before a training, and where programs compile slower than elsewhere.
_BARRIER_SECONDS = 3600
_NOTHING_TO_DETECT = "coordinator_address should be defined."
_T = TypeVar("_T")
_calls = itertools.count()
_barriers = itertools.count()


def initialise() -> None:
    """Initialises `jax.distributed`; for a program's `main`, before JAX's first computation.

    Raises:
        UserError: the environment is incomplete, the others are not found, or the process does not
            see the devices that it should.
    """
    timeouts: dict[str, Any] = {
        "heartbeat_timeout_seconds": _whole(_HEARTBEAT, 1, 100),
        "initialization_timeout": _whole(_START, 1, 300),
        "shutdown_timeout_seconds": _SHUTDOWN_SECONDS,
    }
    given = [name for name in (_COORDINATOR, _COUNT, _ID) if os.environ.get(name)]
    alone = given == [_COUNT] and _whole(_COUNT, 1) == 1
    if given and not alone:
        _initialise_as_told(given, timeouts)
    elif not alone and os.environ.get("SLURM_NTASKS") != "1":
        try:
            jax.distributed.initialize(**timeouts)
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            if str(error) != _NOTHING_TO_DETECT:
                raise UserError(
                    f"a cluster was found, but not its processes ({type(error).__name__}: "
                    f"{one_line(error)}); set {_COORDINATOR}, {_COUNT} and {_ID}, or {_COUNT}=1 "
                    "for a process on its own"
                ) from error
    _check_devices()


def stop_agreed() -> bool:
    """Whether all processes stop after this step, because one of them had a signal.

    All have to ask after every step; they get the same answer. Of several processes it takes a
    second or two from the signal to a "yes".
    """
    if not jax.distributed.is_initialized():
        return signal_received()
    # Steps would not do: stage 2 counts them from 0 again.
    return multihost_utils.reached_preemption_sync_point(next(_calls))


def wait_for_all() -> None:
    """Waits until all processes are here, which can be long after.

    A sum over devices does not wait so long: on CPUs its network gives up after 30 seconds.
    """
    if jax.process_count() > 1:
        multihost.sync_global_processes(
            f"gmsrm_{next(_barriers)}",
            timeout=_BARRIER_SECONDS,
            processes=set(range(jax.process_count())),
        )


def gather(value: Any) -> list[Any]:
    """What can be written as JSON, from every process, in their order, on every process."""
    if jax.process_count() == 1:
        return [value]
    wait_for_all()
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(text.size, np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: text.size] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row[:size]).decode()) for row, size in zip(rows, sizes, strict=True)]


def everywhere(action: Callable[[], _T]) -> _T:
    """Does something in every process; a UserError in one is raised in all.

    Raises:
        UserError: the process's own, or that of the first process that had one, which it names.
    """
    failure: UserError | None = None
    try:
        result = action()
    except UserError as error:
        failure = error
    lines = gather(None if failure is None else str(failure))
    if failure is not None:
        raise failure
    for index, line in enumerate(lines):
        if line is not None:
            raise UserError(f"process {index}: {line}")
    return result


def from_process_0(decide: Callable[[], _T]) -> _T:
    """What `decide` returns (JSON) or raises (UserError) in process 0 alone, in every process.

    What depends on a disk is decided so, for another process's view of a network disk may be older.
    """
    if jax.process_count() == 1:
        return decide()
    answer: dict[str, Any] | None = None
    if jax.process_index() == 0:
        try:
            answer = {"value": decide()}
        except UserError as error:
            answer = {"error": str(error)}
    said = gather(answer)[0]
    if "error" in said:
        raise UserError(said["error"])
    return said["value"]


def check_agreement(facts: Mapping[str, str | int]) -> None:
    """Checks that all processes are about to do the same.

    Raises:
        UserError: names a process that differs from process 0, and in what.
    """
    first, *others = gather(dict(facts))
    for index, theirs in enumerate(others, start=1):
        for name, value in theirs.items():
            if value != first[name]:
                raise UserError(
                    f"process {index} has another {name} than process 0: {value!r}, not "
                    f"{first[name]!r}; start all processes with the same command, package and files"
                )


def _initialise_as_told(given: list[str], timeouts: dict[str, Any]) -> None:
    missing = [name for name in (_COORDINATOR, _COUNT, _ID) if name not in given]
    if missing:
        raise UserError(
            f"{', '.join(given)} set, but not {', '.join(missing)}; set all three, or none of them"
        )
    address, count = os.environ[_COORDINATOR], _whole(_COUNT, 1)
    if not re.fullmatch(r"\S+:\d+", address):
        raise UserError(f"{_COORDINATOR} = {address!r}; write host:port, such as node1:6006")
    index = _whole(_ID, 0)
    if index >= count:
        raise UserError(f"{_ID} = {index}, but {_COUNT} = {count}; number processes from 0")
    if index > 0:
        _wait_for_coordinator(address, timeouts["initialization_timeout"])
    try:
        # Detection would still choose the devices, one for each SLURM task.
        jax.distributed.initialize(
            address, count, index, cluster_detection_method="deactivate", **timeouts
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"process {index} of {count} does not find the others at {_COORDINATOR} = {address} "
            f"({one_line(error)}); start all of them, with process 0 on that host"
        ) from error


def _wait_for_coordinator(address: str, seconds: float) -> None:
    """Waits until process 0 listens; JAX, which would wait too, aborts when it waits in vain.

    Raises:
        UserError: it does not.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"nothing listens at {_COORDINATOR} = {address} ({one_line(error)}); start "
                    f"process 0 on that host, within {_START} = {seconds} s"
                ) from error
            time.sleep(0.2)


def _check_devices() -> None:
    """Checks that the process sees the devices that it should.

    Raises:
        UserError: fewer or more than expected.
    """
    seen = jax.local_device_count()
    if os.environ.get(_DEVICES) and seen != _whole(_DEVICES, 1):
        raise UserError(
            f"process {jax.process_index()} sees {seen} device(s), but {_DEVICES} = "
            f"{os.environ[_DEVICES]}; mend the reservation of devices, or JAX_LOCAL_DEVICE_IDS"
        )


def _whole(name: str, least: int, default: int | None = None) -> int:
    """A whole number of the environment.

    Raises:
        UserError: it is none, or too small.
    """
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or int(text) < least:
        raise UserError(f"{name} = {text!r}; set a whole number from {least}")
    return int(text)
