"""`gmsrm evaluate`: score a checkpoint: tables, figures, report.

Fills the holes of test pictures with a trained network, and writes metrics.json, per_image.csv, the
paper's tables (Markdown, LaTeX, HTML) and figures, and report.html. What was scored before is not
scored again, and an evaluation that was stopped goes on. Options that are not given are as in the
training's config, or of a network that is no workdir as configs have them by default. A training
that began with trained weights is compared with these. --shard I/N scores a share; the same command
with --join N in its place writes what a single one would, when all shares are done.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gmsrm_jax.commands import Subparsers, add_command
from gmsrm_jax.commands.config_files import change_fields
from gmsrm_jax.commands.options import (
    add_checkpoint,
    add_fields,
    add_offline,
    add_shares,
    share_of,
)
from gmsrm_jax.commands.scoring import evaluate_and_report
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path

_POLL_SECONDS = 10.0


def add_parser(subparsers: Subparsers) -> None:
    """Adds `evaluate`."""
    parser = add_command(subparsers, "evaluate", __doc__, run)
    add_checkpoint(parser)
    add_offline(parser)
    add = parser.add_argument
    add(
        "--output",
        metavar="DIR",
        help="default: WORKDIR/evaluation and WORKDIR/report.html; evaluation/NAME of a network"
        " that is no workdir",
    )
    add("--images", metavar="SPEC", help="the test pictures, as config.data.test; see --dataset")
    add(
        "--masks",
        metavar="SPEC",
        help="generated (drawn by --seed), a mask list *.npz, or a folder: of masks named after the"
        " pictures, one for each, or of any others, dealt by --seed so that each picture has one of"
        " every bin",
    )
    black = "black is the hole in that folder"
    add("--invert", dest="invert_masks", action="store_true", default=None, help=black)
    add(
        "--predictions",
        action="append",
        metavar="NAME=DIR",
        help="a row for pictures that another program filled, named as --export-inputs does",
    )
    add("--export-inputs", metavar="DIR", help="only write the holed pictures and masks, and end")
    baselines = "of untrained,mean,smooth,telea,ns,biharmonic,patchmatch"
    add("--baselines", type=_words, metavar="A,B", help=baselines)
    add("--perceptual", type=_words, metavar="A,B", help="of vgg_hole,lpips_vgg,lpips_alex,fid")
    add("--weights", metavar="DIR", help="where `gmsrm convert` wrote weights of lpips_* and fid")
    noise = "drawn by the seed, zero, or a row each"
    add("--noise", choices=["sampled", "mean", "both"], help=noise)
    add("--samples", type=int, metavar="K", help="fillings of each hole: mean, best and diversity")
    add("--seed", type=int, help="of masks, noise and figures")
    add("--max-images", type=int, metavar="N", help="only the first N pictures")
    add("--batch-size", type=int, metavar="N", help="pictures at once, over all devices")
    add(
        "--dataset",
        metavar="NAME",
        help="in tables; a data set of the paper brings its rows (default: the config's, but not"
        " with --images)",
    )
    add("--figure-pictures", type=_words, metavar="A,B", help="names of pictures for the figures")
    add(
        "--follow",
        type=float,
        metavar="SECONDS",
        help="score the newest checkpoint, and each newest one after it, into OUTPUT/step_N, until"
        " none came for so long",
    )
    add_fields(parser)
    add_shares(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluates what the options say."""
    from gmsrm_jax.checkpoints.store import checkpoint_folder
    from gmsrm_jax.config.checks import check_config
    from gmsrm_jax.config.fields import base_config
    from gmsrm_jax.config.of_run import config_of_run
    from gmsrm_jax.evaluation.run import export_test_set
    from gmsrm_jax.methods import METHODS
    from gmsrm_jax.networks import load_pretrained
    from gmsrm_jax.runtime.jax_setup import set_up_jax
    from gmsrm_jax.runtime.log import open_text_log

    share = share_of(args)
    for option in ("export_inputs", "follow"):
        if share and getattr(args, option) is not None:
            name = option.replace("_", "-")
            raise UserError(f"--{name} is for one program; leave --shard and --join out")
    network = None if _is_workdir(args) else load_pretrained(args.checkpoint, args.offline)
    workdir = user_path(args.checkpoint or ".", "--checkpoint")
    if network is None:
        config = config_of_run(workdir)
    elif args.images:
        config = network.config.copy_and_resolve_references()
    else:
        raise UserError(
            f"{network.source} is no workdir, whose config would name test pictures; give --images"
        )
    with config.unlocked():
        if network is not None:
            config.name = Path(network.source).name
        if args.images:
            config.data.test = args.images
            # The training's name would put the paper's rows beside other pictures.
            config.evaluation.dataset = base_config().evaluation.dataset
        # Options that are not given keep what the training's config says.
        for field in config.evaluation:
            value: Any = getattr(args, field, None)
            if value is not None:
                config.evaluation[field] = tuple(value) if isinstance(value, list) else value
    change_fields(config, args.set)
    check_config(config)
    open_text_log(None)
    set_up_jax(config.matmul_precision)
    if args.export_inputs is not None:
        export_test_set(config, user_path(args.export_inputs, "--export-inputs"))
        return
    command = shlex.join(["gmsrm", *sys.argv[1:]])
    output = None if args.output is None else user_path(args.output, "--output")
    if args.follow is None:
        evaluate_and_report(config, network or workdir, command, output, share=share)
        return
    folder = output or workdir / "evaluation"

    def score(step: int) -> None:
        evaluate_and_report(config, workdir, command, folder / f"step_{step:08d}", step)

    last = METHODS[config.method].last_stage(config)
    _follow(checkpoint_folder(workdir, last), args.follow, score)


def _is_workdir(args: argparse.Namespace) -> bool:
    """Whether --checkpoint names the workdir of a training.

    Raises:
        UserError: it does not, and is to be followed.
    """
    from gmsrm_jax.assets import BUNDLED_NETWORKS
    from gmsrm_jax.networks.names import is_workdir

    name = args.checkpoint
    if name and name not in BUNDLED_NETWORKS and is_workdir(user_path(name, "--checkpoint")):
        return True
    if args.follow is not None:
        raise UserError(f"--follow: {name or BUNDLED_NETWORKS[0]} is no workdir of a training")
    return False


def _follow(folder: Path, patience: float, score: Callable[[int], None]) -> None:
    """Scores the newest checkpoint again and again, until none came for `patience` seconds.

    Raises:
        UserError: no checkpoint came.
        NotScored: at the end, if weights of a perceptual measure are missing.
    """
    from gmsrm_jax.checkpoints.store import Checkpoints
    from gmsrm_jax.commands.scoring import NotScored
    from gmsrm_jax.runtime.log import say

    last, seen = None, time.monotonic()
    lacking: NotScored | None = None
    while True:
        step = None
        if folder.is_dir():
            checkpoints = Checkpoints(folder, read_only=True)
            step = checkpoints.latest()
            checkpoints.finish()
        if step is not None and step != last:
            try:
                score(step)
            except NotScored as error:  # as all later ones, which are scored by the rest as well
                lacking = error
            last, seen = step, time.monotonic()
        elif time.monotonic() - seen > patience:
            break
        else:
            time.sleep(min(_POLL_SECONDS, patience))
    if last is None:
        raise UserError(f"no checkpoint came in {folder} within {patience:g} s; is it training?")
    say(f"no new checkpoint for {patience:g} s; the last was step {last}")
    if lacking:
        raise lacking


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)
