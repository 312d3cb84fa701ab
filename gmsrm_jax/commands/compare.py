"""`gmsrm compare`: methods and variants, trained and scored alike."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gmsrm_jax.commands import Subparsers
from gmsrm_jax.commands.config_files import change_fields, read_config_file
from gmsrm_jax.commands.options import add_fields
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path

if TYPE_CHECKING:
    from gmsrm_jax.commands.comparison import Row

_SEEDS = 2**32  # JAX takes the seeds above as their last 32 bits


def add_parser(subparsers: Subparsers) -> None:
    """Adds `compare`."""
    parser = subparsers.add_parser(
        "compare",
        help="train and score methods or variants alike (Tables I, II and IV)",
        description=(
            "Trains each row, a method or a variant, with the same seed, pictures, masks and number"
            " of pictures, evaluates it, and writes Tables I, II and IV, a table with what each row"
            " costs, figures with the rows side by side, comparison.json and report.html. A stage"
            " that rows have in common is trained once. The same command after an interruption"
            " goes on, and further rows are added to those that are done. With --seeds it does so"
            " with one seed after the other, in DIR/seed_0, DIR/seed_1 and so on, and writes the"
            " tables with mean and standard deviation over them into DIR. A signal is answered"
            " by the running step, which saves, with the exit statuses of a training."
        ),
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="a config file *.py[:ARGUMENT]")
    add(
        "--rows",
        metavar="A,B",
        help="methods and variants, such as pconv,edgeconnect,gm_srm (default: the variants of the"
        " config's method)",
    )
    add(
        "--kimg",
        type=float,
        metavar="K",
        help="thousand pictures for each row, all its stages together but those that methods share;"
        " needed for rows of several methods",
    )
    add("--workdir", metavar="DIR", help="default: runs/ and the config's name, and -comparison")
    add_fields(parser, "a field of every config that has it")
    add(
        "--seeds",
        metavar="A,B",
        help="two or more seeds of the training, such as 0,1,2, in place of the config's",
    )
    parser.set_defaults(run=run, trains=True)


def run(args: argparse.Namespace) -> None:
    """Runs the comparison."""
    seeds = None if args.seeds is None else _read_seeds(args.seeds)

    from gmsrm_jax.commands.comparison import check_rows, compare, compare_seeds
    from gmsrm_jax.runtime.jax_setup import set_up_jax
    from gmsrm_jax.runtime.log import open_text_log

    open_text_log(None)
    rows = read_rows(args.config, args.rows, args.set, args.kimg)
    check_rows(rows)
    set_up_jax(rows[0].config.matmul_precision)
    name = read_config_file(args.config).name
    workdir = user_path(
        f"runs/{name}-comparison" if args.workdir is None else args.workdir, "--workdir"
    )
    command = shlex.join(["gmsrm", *sys.argv[1:]])
    if seeds is None:
        compare(rows, workdir, command)
    else:
        compare_seeds(rows, workdir, seeds, command)


def read_rows(
    target: str, words: str | None, changes: Sequence[str], kimg: float | None
) -> "list[Row]":
    """The rows of a comparison, checked one by one.

    Args:
        target: FILE.py[:ARGUMENT].
        words: methods and variants, joined by commas; None for the variants of the config's method.
        changes: FIELD=VALUE each, of the configs that have this field.
        kimg: see `comparison.set_length`; None leaves each config's own lengths.

    Raises:
        UserError: there are no such rows, no such field, or lengths that cannot be compared.
    """
    from gmsrm_jax.commands.comparison import Row, set_length
    from gmsrm_jax.config import check_config
    from gmsrm_jax.config.fields import flatten
    from gmsrm_jax.methods import METHODS

    method = METHODS[read_config_file(target).method]
    if words is None and not method.variants:
        raise UserError(f"the method {method.name} has no variants to compare; name --rows")
    named = list(method.variants) if words is None else [w.strip() for w in words.split(",")]
    if len(set(named)) < len(named):
        raise UserError(f"--rows {words!r}: a row is there twice; write each once")
    file, _, argument = target.partition(":")
    rowlike = {*METHODS, *(v for each in METHODS.values() for v in each.variants)}
    kept = [word for word in argument.split(",") if word and word not in rowlike]
    for word in named:
        if word not in rowlike or (word in METHODS and METHODS[word].stages is None):
            known = sorted(w for w in rowlike if w not in METHODS or METHODS[w].stages)
            raise UserError(f"--rows: {word!r} is no row; use any of: {', '.join(known)}")
    rows = [Row(word, read_config_file(f"{file}:{','.join([*kept, word])}")) for word in named]
    for change in changes:
        field = change.partition("=")[0]
        having = [row for row in rows if field in flatten(row.config.to_dict())]
        for row in having or rows[:1]:  # the first, to be told that there is no such field
            change_fields(row.config, [change])
    if kimg is not None and not 0 < kimg < float("inf"):
        raise UserError(f"--kimg {kimg:g}: write a number of thousand pictures above 0")
    if kimg is None and len({row.config.method for row in rows}) > 1:
        raise UserError("rows of several methods need one length for all, such as --kimg 30")
    for row in rows:
        if kimg is not None:
            set_length(row.config, kimg)
        check_config(row.config)
    return rows


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
            f"--seeds {text!r}: one seed has no spread; write two or more, or"
            f" --config.seed={seeds[0]} without --seeds"
        )
    return seeds
