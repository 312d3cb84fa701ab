"""The exceptions that reach a person as a single line instead of a traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something that the person running the program can cure.

    The message is one line and names the file or key, the value found, and the cure. The entry
    points print it and exit with its status; every other exception is a bug and keeps its
    traceback.

    Attributes:
        exit_status: of a program that ends with it.
    """

    exit_status = 2


class NotFinite(UserError):
    """A loss, a gradient or a validation score that is NaN or infinite."""

    exit_status = 3


class Stopped(Exception):
    """A training that was stopped by a signal, saved and said so: the same command goes on.

    Attributes:
        exit_status: EX_TEMPFAIL of sysexits.h, which schedulers are told to start again.
    """

    exit_status = 75


def status_of(program: str, action: Callable[[], object]) -> int:
    """Does what a program is there for; returns 0, or after a `UserError`, as one line, its status.

    Args:
        program: its name, which the line begins with.
        action: what it does.
    """
    try:
        action()
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks, of 200 characters at most."""
    return " ".join(str(error).split())[:200]
