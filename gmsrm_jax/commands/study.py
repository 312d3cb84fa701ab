"""`gmsrm study`: let people rank methods on a local page (the paper's user study).

Serves a page that shows a picture with its hole and the results of all methods, shuffled and
unlabelled, to be ranked by mouse, touch or keyboard. Every vote is stored at once in
DIR/study.sqlite; of several by one participant on one sample the latest counts, and all are kept.
Ctrl-C stops, prints the tally (share of the vote with 95 % intervals, winning samples, mean ranks)
and writes it to DIR/tally.json, .md and .csv; the same command goes on later.
"""

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from gmsrm_jax.commands import Subparsers, add_command
from gmsrm_jax.commands.options import add_address, whole
from gmsrm_jax.runtime.errors import UserError


def add_parser(subparsers: Subparsers) -> None:
    """Adds `study`."""
    study = add_command(subparsers, "study", __doc__, run)
    add = study.add_argument
    add(
        "--methods",
        nargs="+",
        type=_method,
        metavar="NAME=DIR",
        help="2 to 9 methods and the folders of their results; pictures are paired by path without"
        " suffix, and every folder must have the same ones",
    )
    add(
        "--input", metavar="DIR", help="the pictures with their holes, to be shown beside (advised)"
    )
    add("--out", required=True, metavar="DIR", help="folder for the votes and the tally")
    add(
        "--count",
        type=whole(1),
        metavar="N",
        help="samples per participant, drawn for each (default: all)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of the orders of samples and results")
    add_address(
        study,
        8000,
        "take votes from other machines: needed for any other --host, such as 0.0.0.0; the address"
        " of the page then has a secret part.",
    )
    add(
        "--tally",
        action="store_true",
        help="serve nothing: print and write the tally of the study in --out",
    )


def run(args: argparse.Namespace) -> None:
    """Serves until it is interrupted, unless only the tally is wanted, and tallies."""
    from gmsrm_jax.runtime.log import open_text_log
    from gmsrm_jax.study.votes import FILE_NAME

    open_text_log(None)
    path = Path(args.out) / FILE_NAME
    if not args.tally:
        _serve(args, path)
    elif args.methods or args.input:
        raise UserError("--tally reads what is in --out; leave out --methods and --input")
    _report(path)


def _serve(args: argparse.Namespace, path: Path) -> None:
    from gmsrm_jax.runtime import web

    web.check_installed("gmsrm study", "fastapi", "uvicorn")
    from gmsrm_jax.study.presentation import Presentation
    from gmsrm_jax.study.samples import read_samples
    from gmsrm_jax.study.server import make_study_app
    from gmsrm_jax.study.votes import Votes

    methods = _checked(args.methods or [])
    if not (args.allow_remote or web.is_local(args.host)):
        raise UserError(
            f"--host={args.host}: other machines could reach it; give --allow-remote, or leave"
            " --host out"
        )
    samples = read_samples(methods, args.input)
    if args.count is not None and args.count > len(samples):
        raise UserError(
            f"--count={args.count}: there are {len(samples)} samples; give that or less"
        )
    presentation = Presentation(methods, samples, args.seed, args.count)
    with contextlib.closing(Votes.open(path, presentation)) as votes:
        token = votes.token() if args.allow_remote else ""
        app = make_study_app(presentation, votes, token, web.names_of(args.host, token))
        with contextlib.closing(web.listen(args.host, args.port)) as opened:
            inputs = "inputs shown" if presentation.has_input else "no inputs (--input shows them)"
            print(
                f"{len(methods)} methods, {len(samples)} samples, {presentation.count} for each"
                f" participant, {inputs}; {len(votes.latest())} votes so far\n"
                f"open {web.address(opened, args.host)}{token and token + '/'} - Ctrl-C stops and"
                " prints the tally",
                flush=True,
            )
            web.interrupt_on_terminate()
            with contextlib.suppress(KeyboardInterrupt):
                web.serve(app, opened)
    print()


def _report(path: Path) -> None:
    """Prints the tally and writes it beside the votes."""
    from gmsrm_jax.study.tally import format_tally, tally_study, write_tally
    from gmsrm_jax.study.votes import Votes

    with contextlib.closing(Votes(path)) as votes:
        result = tally_study(votes)
    print(format_tally(result))
    try:
        written = write_tally(path.parent, result)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be written ({error.strerror})") from error
    print(f"\nwrote {', '.join(map(str, written))}")


def _checked(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Returns the folders by method."""
    from gmsrm_jax.study.presentation import MAX_METHODS, MIN_METHODS

    methods = dict(pairs)
    if len(methods) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"--methods: {twice!r} is given twice; give every method its own name")
    if not MIN_METHODS <= len(methods) <= MAX_METHODS:
        raise UserError(
            f"--methods: {len(methods)} given; give {MIN_METHODS} to {MAX_METHODS} as NAME=DIR"
        )
    return methods


def _method(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    name = name.strip()
    if not (name and equals and folder) or not name.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR")
    return name, folder
