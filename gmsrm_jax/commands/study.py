"""`gmsrm study`: let people rank methods on a local page (the paper's user study).

Serves a page that shows a picture with its hole and the results of all methods, shuffled and
unlabelled, to be ranked by mouse, touch or keyboard. Methods are folders of results, or networks
that fill the same pictures first: with two of them, old and new, it is a blind test of pairs. Every
vote is stored at once in DIR/study.sqlite; of several by one participant on one sample the latest
counts, and all are kept. Ctrl-C stops, prints the tally (share of the vote with 95 % intervals and
a binomial test, winning samples, mean ranks, consistency) and writes it to DIR/tally.json, .md and
.csv; the same command goes on later.
"""

import argparse
import contextlib
from pathlib import Path

from gmsrm_jax.commands import Subparsers, add_command
from gmsrm_jax.commands.options import add_address, add_device, whole
from gmsrm_jax.runtime import web
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path


def add_parser(subparsers: Subparsers) -> None:
    """Adds `study`."""
    study = add_command(subparsers, "study", __doc__, run)
    add = study.add_argument
    add(
        "--methods",
        nargs="+",
        type=_method,
        default=[],
        metavar="NAME=DIR",
        help="methods and the folders of their results, with --networks 2 to 9 in all; pictures are"
        " paired by path without suffix, and every folder must have the same ones",
    )
    add(
        "--input", metavar="DIR", help="the pictures with their holes, to be shown beside (advised)"
    )
    add(
        "--networks",
        nargs="+",
        type=_method,
        default=[],
        metavar="NAME=CHECKPOINT",
        help="methods that fill --images first, into DIR/fillings: names of weights, exported"
        " folders, workdirs or org/name of the Hugging Face Hub",
    )
    add("--images", metavar="FILE|DIR", help="pictures for --networks to fill")
    add(
        "--masks",
        metavar="FILE|DIR",
        help="their holes, white: one for all, or named like the pictures (default: what is"
        " transparent)",
    )
    add("--out", required=True, metavar="DIR", help="folder for the votes and the tally")
    add(
        "--count",
        type=whole(1),
        metavar="N",
        help="samples per participant, drawn for each (default: all)",
    )
    add(
        "--repeats",
        type=whole(0),
        default=0,
        metavar="N",
        help="samples that each participant ranks again at the end, which measures how consistent"
        " people are (default: %(default)s)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of the orders of samples and results")
    add_device(study)
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
    path = user_path(args.out, "--out") / FILE_NAME
    if not args.tally:
        _serve(args, path)
    elif args.methods or args.input or args.networks or args.images or args.masks:
        raise UserError("--tally reads what is in --out; leave out all methods and pictures")
    _report(path)


def _serve(args: argparse.Namespace, path: Path) -> None:
    web.check_installed("gmsrm study", "fastapi", "uvicorn")
    from gmsrm_jax.study.presentation import Presentation
    from gmsrm_jax.study.samples import read_samples
    from gmsrm_jax.study.server import make_study_app
    from gmsrm_jax.study.votes import Votes

    _check(args)
    methods = {name: user_path(folder, f"--methods {name}") for name, folder in args.methods}
    inputs = user_path(args.input, "--input") if args.input else None
    if args.networks:
        made, holed = _fill(args)
        methods |= made
        inputs = inputs or holed
    samples = read_samples(methods, inputs)
    count = len(samples) if args.count is None else args.count
    if count > len(samples):
        there = count_of(len(samples), "sample")
        raise UserError(f"--count={count}: there are {there}; give that or less")
    if args.repeats > count:
        raise UserError(
            f"--repeats={args.repeats}: of {count_of(count, 'sample')}; give that or less"
        )
    presentation = Presentation(methods, samples, args.seed, count, args.repeats)
    with contextlib.closing(Votes(path, presentation)) as votes:
        token = votes.token() if args.allow_remote else ""
        app = make_study_app(presentation, votes, token, web.names_of(args.host, token))
        shown = "inputs shown" if presentation.has_input else "no inputs (--input shows them)"
        print(
            f"{len(methods)} methods, {count_of(len(samples), 'sample')}, {count} for each"
            f" participant and {args.repeats} of them twice, {shown};"
            f" {count_of(len(votes.latest()), 'vote')} so far"
        )
        web.interrupt_on_terminate()
        with (
            contextlib.closing(web.listen(args.host, args.port)) as opened,
            contextlib.suppress(KeyboardInterrupt),
        ):
            place = web.address(opened, args.host) + (token and token + "/")
            print(f"open {place} - Ctrl-C stops and prints the tally", flush=True)
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


def _check(args: argparse.Namespace) -> None:
    """Refuses what does not fit together, before any work."""
    from gmsrm_jax.study.presentation import MAX_METHODS, MIN_METHODS

    names = [name for name, _ in (*args.methods, *args.networks)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"--methods: {twice[0]!r} is given twice; give every method its own name")
    if not MIN_METHODS <= len(names) <= MAX_METHODS:
        raise UserError(
            f"--methods: {len(names)} given; give {MIN_METHODS} to {MAX_METHODS} as NAME=DIR, or as"
            " --networks NAME=CHECKPOINT"
        )
    if bool(args.networks) != bool(args.images):
        raise UserError("--networks and --images: give both, or none")
    if args.masks and not args.images:
        raise UserError("--masks: give --images and --networks too")
    if not (args.allow_remote or web.is_local(args.host)):
        raise UserError(
            f"--host={args.host}: other machines could reach it; give --allow-remote, or leave"
            " --host out"
        )


def _fill(args: argparse.Namespace) -> tuple[dict[str, Path], Path]:
    """Has the networks fill the pictures; returns the folders of the methods and of the inputs."""
    from gmsrm_jax.inference.inpainter import Inpainter
    from gmsrm_jax.runtime.jax_setup import set_up_jax
    from gmsrm_jax.study.fillings import make_fillings

    set_up_jax("default", args.device)
    networks = {
        name: Inpainter.from_pretrained(checkpoint, device=args.device, offline=args.offline)
        for name, checkpoint in args.networks
    }
    masks = user_path(args.masks, "--masks") if args.masks else None
    images, folder = user_path(args.images, "--images"), user_path(args.out, "--out") / "fillings"
    return make_fillings(folder, networks, images, masks)


def _method(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    name = name.strip()
    if not (name and equals and folder) or not name.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, folder
