"""The `gmsrm` command: filling holes, evaluating, converting, one subcommand for each."""

import errno
import logging
import sys
import warnings
from collections.abc import Sequence

import absl.logging

import gmsrm_jax
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
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.signals import keep_interrupts
from gmsrm_jax.runtime.streams import run_program

# A subcommand imports what is slow to import (JAX, TensorFlow) inside its `run`.
_COMMANDS = (compare, convert, data, doctor, evaluate, export, inpaint, masks, serve, study)


def build_parser() -> Parser:
    """Returns the parser with all subcommands; parsed arguments have the subcommand as `run`."""
    parser = Parser(
        prog="gmsrm", description="Fills holes in pictures, and trains what fills them."
    )
    parser.add_argument("--version", action="version", version=f"gmsrm {gmsrm_jax.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit status.

    It is 2 after a `UserError`, which is printed as one line, and 130 after Ctrl-C; what else there
    is stands in the subcommand's help.
    """
    args = build_parser().parse_args(argv)
    # Below errors it holds what libraries tell their developers.
    absl.logging.set_verbosity(absl.logging.ERROR)
    # Pillow's own words about odd files; what matters of them is said in ours.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    try:
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
    sys.exit(run_program("gmsrm", main))


if __name__ == "__main__":
    entry_point()
