"""Standard streams, whatever the shell made of them: closed, full, ASCII only, read by nobody."""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import TextIO

_STREAMS = ("stdin", "stdout", "stderr")  # by their numbers


def run_program(name: str, action: Callable[[], int]) -> int:
    """Runs a program's `main`; to be called first of all in its process.

    A closed stream is opened to nowhere: else the next file that is opened would take its number,
    and get what libraries print. What its encoding lacks is written with backslashes.

    Args:
        name: what a line on the standard error begins with.
        action: returns, or exits with, the exit status.

    Returns:
        The exit status: the action's; 141 if nobody reads what is printed, as of programs that
        SIGPIPE ends; 2 if it cannot be written, which one line says.
    """
    _open_closed()
    try:
        try:
            status = action()
        except SystemExit as end:  # argparse's
            status = end.code if isinstance(end.code, int) else 0
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            status = 128 + signal.SIGPIPE
        elif _is_unwritable(sys.stdout):
            what = f"standard output: cannot be written ({error.strerror})"
            print(f"{name}: error: {what}; make room, or send it elsewhere", file=sys.stderr)
            status = 2
        else:
            raise
        drop_output()
    return status


def drop_output() -> None:
    """Sends to nowhere what is printed from now on, and what could not be printed."""
    with open(os.devnull, "w") as nowhere, contextlib.suppress(OSError, ValueError):
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _open_closed() -> None:
    for number, name in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_unwritable(stream: TextIO) -> bool:
    try:
        os.write(stream.fileno(), b"\n")
    except OSError:
        return True
    return False
