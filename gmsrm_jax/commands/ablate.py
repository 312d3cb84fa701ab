"""`gmsrm ablate`: the four variants of the paper's Table IV, trained alike."""

import argparse
import shlex
import sys
from pathlib import Path

from gmsrm_jax.commands import Subparsers
from gmsrm_jax.commands.config_files import change_fields, read_config_file


def add_parser(subparsers: Subparsers) -> None:
    """Adds `ablate`."""
    parser = subparsers.add_parser(
        "ablate",
        help="train and compare the paper's four variants (Table IV)",
        description=(
            "Trains stage 1 once and the variants base, gm_bm, gm_csv and gm_srm with the same"
            " seed, data and steps, evaluates each, and writes Table IV, Figure 10 and"
            " report.html. The same command after an interruption goes on."
        ),
    )
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="a config file *.py[:ARGUMENT]"
    )
    parser.add_argument(
        "--workdir", metavar="DIR", help="default: runs/ and the config's name, and -ablation"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the config, such as data.train=DIR; can be repeated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Runs the ablation."""
    from gmsrm_jax.ablation import ablate
    from gmsrm_jax.config_checks import check_config
    from gmsrm_jax.jax_setup import set_up_jax
    from gmsrm_jax.run_log import open_text_log

    open_text_log(None)
    config = read_config_file(args.config)
    change_fields(config, args.set)
    check_config(config)
    set_up_jax(config.matmul_precision)
    workdir = Path(args.workdir or f"runs/{config.name}-ablation").expanduser()
    ablate(config, workdir, shlex.join(["gmsrm", *sys.argv[1:]]))
