"""`gmsrm compare`: the variants of a method, trained and scored alike."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from gmsrm_jax.commands import Subparsers
from gmsrm_jax.commands.config_files import change_fields, read_config_file
from gmsrm_jax.runtime.errors import UserError

_SEEDS = 2**32  # JAX takes the seeds above as their last 32 bits


def add_parser(subparsers: Subparsers) -> None:
    """Adds `compare`."""
    parser = subparsers.add_parser(
        "compare",
        help="train and score the variants of a method alike (Table IV)",
        description=(
            "Trains the stages that variants share once and then every variant of the config's"
            " method with the same seed, data and steps, evaluates each, and writes Table IV,"
            " Figure 10 and"
            " report.html. The same command after an interruption goes on. With --seeds it does"
            " so with one seed after the other, in DIR/seed_0, DIR/seed_1 and so on, and writes"
            " Table IV with mean and standard deviation over them into DIR."
        ),
    )
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="a config file *.py[:ARGUMENT]"
    )
    parser.add_argument(
        "--workdir", metavar="DIR", help="default: runs/ and the config's name, and -variants"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the config, such as data.train=DIR; can be repeated",
    )
    parser.add_argument(
        "--seeds",
        metavar="A,B",
        help="two or more seeds of the training, such as 0,1,2, in place of the config's",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Runs the comparison."""
    seeds = None if args.seeds is None else _read_seeds(args.seeds)

    from gmsrm_jax.commands.comparison import compare, compare_seeds
    from gmsrm_jax.config import check_config
    from gmsrm_jax.runtime.jax_setup import set_up_jax
    from gmsrm_jax.runtime.log import open_text_log

    open_text_log(None)
    config = read_config_file(args.config)
    change_fields(config, args.set)
    check_config(config)
    set_up_jax(config.matmul_precision)
    workdir = Path(args.workdir or f"runs/{config.name}-variants").expanduser()
    command = shlex.join(["gmsrm", *sys.argv[1:]])
    if seeds is None:
        compare(config, workdir, command)
    else:
        compare_seeds(config, workdir, seeds, command)


def _read_seeds(text: str) -> Sequence[int]:
    """The seeds of "0,1,2".

    Raises:
        UserError: a word is no seed, one is there twice, or there is only one.
    """
    seeds: list[int] = []
    for word in text.split(","):
        word = word.strip()
        if not (word.isascii() and word.isdigit() and int(word) < _SEEDS):
            raise UserError(
                f"--seeds {text!r}: {word!r} is no whole number from 0 to {_SEEDS - 1}; write "
                "seeds such as 0,1,2"
            )
        if int(word) in seeds:
            raise UserError(f"--seeds {text!r}: {int(word)} is there twice; write each seed once")
        seeds.append(int(word))
    if len(seeds) == 1:
        raise UserError(
            f"--seeds {text!r}: one seed has no spread; write two or more, or --set seed={seeds[0]}"
            " without --seeds"
        )
    return seeds
