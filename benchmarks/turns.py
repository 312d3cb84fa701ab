r"""What changes of fields do to the speed of a stage's step: one step of each row in turn.

    python -m benchmarks.turns --config configs/photos.py --stage inpainting --row "whole: " \
        --row "crop: inpainting.perceptual_crop=64" --row "small: image_size=64" [--rounds 10]

A row is a name, a colon and FIELD=VALUE separated by spaces. Prints pictures a second by the median
step, and against the first row the median of the ratios within a round. Pictures are noise, and so
is the whole VGG-19 where a config asks for it.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np

from benchmarks.stages import batch_field, build_stage, spec_of, with_random_vgg19
from benchmarks.training import usual_step
from gmsrm_jax.commands import Parser
from gmsrm_jax.commands.config_files import change_fields, read_config_file
from gmsrm_jax.config import check_config
from gmsrm_jax.methods import METHODS


def row(text: str) -> tuple[str, list[str]]:
    """A row's name and its changes of fields."""
    name, colon, changes = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r}; use 'NAME: FIELD=VALUE FIELD=VALUE'")
    return name.strip(), changes.split()


def main() -> None:
    """Prints the table."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE[:ARGUMENT]")
    add("--row", required=True, action="append", type=row, help="NAME: FIELD=VALUE …; several")
    add("--stage", default="", help="default: the method's last")
    add("--rounds", type=int, default=10, help="steps of each row (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        configs, pictures = {}, {}
        for name, changes in args.row:
            config = read_config_file(args.config)
            change_fields(config, changes)
            with_random_vgg19(config, pathlib.Path(folder))
            check_config(config)
            stage = args.stage or METHODS[config.method].stages_of(config)[-1].name
            configs[name] = config
            built = build_stage(config, spec_of(config, stage))
            pictures[name] = built.batches[batch_field(built)]
        steps = {name: usual_step(config, stage) for name, config in configs.items()}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - began)
    rates = {name: pictures[name] / np.array(seconds) for name, seconds in taken.items()}
    first = next(iter(rates.values()))
    print("| | pictures/s | of the first row |\n| --- | ---: | ---: |")
    for name, rate in rates.items():
        print(f"| {name} | {np.median(rate):.2f} | {np.median(rate / first):.2f} |")


if __name__ == "__main__":
    main()
