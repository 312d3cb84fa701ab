"""Draws runs' validation: python tools/validation_figure.py LABEL=WORKDIR … --output FILE.png.

One line for each run: what the stage that fills measured on the pictures kept aside, over the
pictures seen.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from line_picture import lines_picture

from gmsrm_jax.commands.options import writing
from gmsrm_jax.config.of_run import config_of_run
from gmsrm_jax.methods import METHODS
from gmsrm_jax.report.charts import Line
from gmsrm_jax.runtime.errors import UserError, status_of
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.image_grid import to_png
from gmsrm_jax.runtime.log import open_text_log, read_log

_QUANTITIES = {"psnr": "PSNR [dB]", "hole_l1": "L1 in the hole [levels of 255]"}


def validation_line(label: str, workdir: pathlib.Path, quantity: str) -> Line:
    """Reads one run's measurements.

    Args:
        label: of the line.
        workdir: the run's folder.
        quantity: "psnr" or "hole_l1".

    Raises:
        UserError: it is no workdir, or the stage was not validated there.
    """
    config = config_of_run(workdir)
    stage = METHODS[config.method].last_stage(config)
    path = workdir / stage / "log.jsonl"
    tag = f"validation/{quantity}"
    scored = [line for line in read_log(path) if line.get(tag) is not None]
    if not scored:
        raise UserError(
            f"{path}: holds no {tag}; train it with --stage={stage} to its first validation"
        )
    thousands = tuple(line["images"] / 1000 for line in scored)
    return Line(label, thousands, tuple(line[tag] for line in scored))


def make_figure(runs: Sequence[str], quantity: str, output: pathlib.Path) -> str:
    """Writes the picture, and returns its last values, one line.

    Raises:
        UserError: an option or a workdir cannot be used, or the file cannot be written.
    """
    lines = []
    for run in runs:
        label, equals, workdir = run.partition("=")
        if not (label and equals and workdir):
            raise UserError(f"{run}: has no label or no workdir; write LABEL=WORKDIR")
        lines.append(validation_line(label, pathlib.Path(workdir), quantity))
    if output.suffix != ".png":
        raise UserError(f"--output={output}: its name must end in .png")
    chart = lines_picture(
        lines, "thousands of pictures seen", _QUANTITIES[quantity], from_zero=False
    )
    with writing(output, "--output"):
        write_atomically(output, to_png(chart))
    last = ", ".join(f"{line.label} {line.y[-1]:.2f}" for line in lines)
    return f"{output}: {quantity}, last: {last}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the picture and returns the exit status, 2 after an error that is one line."""
    parser = argparse.ArgumentParser(
        description="Draws what was measured on the pictures kept aside.", allow_abbrev=False
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="LABEL=WORKDIR", help="a line of the chart")
    add(
        "--quantity",
        choices=list(_QUANTITIES),
        default="psnr",
        help="what is drawn (default: %(default)s)",
    )
    add("--output", type=pathlib.Path, required=True, metavar="FILE.png", help="the picture")
    args = parser.parse_args(arguments)
    open_text_log(None)
    given = (args.runs, args.quantity, args.output)
    return status_of("validation_figure", lambda: print(make_figure(*given)))


if __name__ == "__main__":
    sys.exit(main())
