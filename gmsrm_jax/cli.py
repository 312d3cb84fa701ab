"""The `gmsrm` command: filling holes, evaluating, converting, one subcommand for each."""

import errno
import functools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import absl.logging

import gmsrm_jax
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.signals import (
    exit_status,
    hold_signals,
    keep_interrupts,
    release_signals,
)
from gmsrm_jax.runtime.streams import run_program

if TYPE_CHECKING:
    from gmsrm_jax.commands import Parser


def build_parser() -> "Parser":
    """Returns the parser with all subcommands; parsed arguments have the subcommand as `run`."""
    # A subcommand imports what is slow to import (JAX, TensorFlow) inside its `run`.
    from gmsrm_jax.commands import (
        Parser,
        compare,
        convert,
        data,
        doctor,
        evaluate,
        export,
        inpaint,
        masks,
        serve,
        study,
    )

    known = (compare, convert, data, doctor, evaluate, export, inpaint, masks, serve, study)
    parser = Parser(
        prog="gmsrm", description="Fills holes in pictures, and trains what fills them."
    )
    parser.add_argument("--version", action="version", version=f"gmsrm {gmsrm_jax.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in known:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None, own_process: bool = False) -> int:
    """Runs one subcommand and returns its exit status.

    It is 2 after a `UserError`, which is printed as one line, and 130 after Ctrl-C; what else there
    is stands in the subcommand's help.

    Args:
        argv: the arguments; None for the process's.
        own_process: there is nothing else in this process, so that signals to a command that trains
            are for its steps to answer, as in `gmsrm_jax.main`.
    """
    args = build_parser().parse_args(argv)
    # Below errors it holds what libraries tell their developers.
    absl.logging.set_verbosity(absl.logging.ERROR)
    # Pillow's own words about odd files; what matters of them is said in ours.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    try:
        if own_process and getattr(args, "trains", False):
            return exit_status(lambda: args.run(args))
        if own_process:
            release_signals()
        return args.run(args) or 0
    except UserError as error:
        print(f"gmsrm: error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        # Of names that no file can have, which even to ask for is an error; others are bugs.
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"gmsrm: error: {error.filename}: {error.strerror}; give another", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gmsrm: stopped; what is finished is kept", file=sys.stderr)
        return 130


def entry_point() -> None:
    """Runs `main` on the process's arguments and exits with its status."""
    keep_interrupts()
    hold_signals()  # before NumPy's threads begin, which could take them
    status = run_program("gmsrm", functools.partial(main, own_process=True))
    if status == 128 + signal.SIGINT:
        os._exit(status)  # the interpreter's own end would abort threads that still compile
    sys.exit(status)


if __name__ == "__main__":
    entry_point()
