r"""What it costs that training lets no more than two steps be under way.

    python -m benchmarks.in_flight --config.image_size=32 --config.batch_size=1 \
        --config.pconv.width=4 --config.pconv.levels=3 [--method pconv] [--rounds 10]

Whoever stops a run waits for every step that was started. The same step is made in turns of 100 in
three ways: each waited for; the one before the newest waited for, as training does; and as many
started as the host can. Prints steps a second by the median turn, and against the last way the
median of the ratios within a round. The host weighs most on short steps, hence the fields.
"""

import pathlib
import tempfile
import time

import jax
import numpy as np

from benchmarks.stages import with_random_vgg19
from benchmarks.training import Step, usual_step
from gmsrm_jax.commands import Parser
from gmsrm_jax.commands.config_files import change_fields
from gmsrm_jax.commands.options import add_fields
from gmsrm_jax.config import apply_argument, base_config, check_config
from gmsrm_jax.methods import METHODS

_STEPS = 100  # of a turn


def each_waited_for(step: Step) -> None:
    """No step is started before the last is done."""
    for _ in range(_STEPS):
        step()


def two_under_way(step: Step) -> None:
    """A step is started when the one before the last is done."""
    before = step.start()
    for _ in range(_STEPS - 1):
        newest = step.start()
        jax.block_until_ready(before)
        before = newest
    jax.block_until_ready((before, step.state))


def any_number(step: Step) -> None:
    """Steps are started as fast as the host can."""
    for _ in range(_STEPS - 1):
        step.start()
    step()


def main() -> None:
    """Prints the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--method", default="pconv", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each way (%(default)s)")
    add_fields(parser)
    args = parser.parse_args()
    config = apply_argument(base_config(args.method), "runlocal")
    change_fields(config, args.set)
    with tempfile.TemporaryDirectory() as folder:
        with_random_vgg19(config, pathlib.Path(folder))
        check_config(config)
        step = usual_step(config, METHODS[config.method].stages_of(config)[-1].name)
    ways = (each_waited_for, two_under_way, any_number)
    taken = np.zeros((args.rounds, len(ways)))
    for number in range(args.rounds):
        for place, way in enumerate(ways):
            began = time.perf_counter()
            way(step)
            taken[number, place] = time.perf_counter() - began
    rates = _STEPS / taken
    print("| | steps/s | of any number |\n| --- | ---: | ---: |")
    for way, rate in zip(ways, rates.T, strict=True):
        share = np.median(rate / rates[:, -1])
        print(f"| {way.__name__.replace('_', ' ')} | {np.median(rate):.1f} | {share:.2f} |")


if __name__ == "__main__":
    main()
