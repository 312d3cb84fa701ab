"""What `bench` measures where: sizes, batches, repetitions."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.commands.config_files import change_fields, read_config_file
from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import RUNLOCAL, apply_argument, base_config

ROOT = pathlib.Path(__file__).parent.parent
SECTIONS = ("training", "scaling", "inference", "use", "startup", "twin")


@dataclasses.dataclass(frozen=True)
class Preset:
    """Sizes and repetitions of a run.

    Attributes:
        config: "demo" (configs/demo.py), "paper" (256 px, the paper's widths, bfloat16) or "tiny"
            (a method's own smallest fields).
        batches: of every stage, in the order of their importance; the first with all programs, the
            others with the one that moves the weights.
        scaling: numbers of devices for the first stage.
        inference: batches of the bare network.
        twin: side [px] of the largest feature maps in the twin's blocks, and their batch.
        sections: measured unless told otherwise.
        warm_up: steps that are not counted.
        repetitions: steps that are, as far as `limit` allows.
        limit: seconds after which a program is not repeated any more.
        starts: repetitions of a program's start.
        budget: seconds for everything.
    """

    config: str
    batches: tuple[int, ...]
    scaling: tuple[int, ...]
    inference: tuple[int, ...]
    twin: tuple[int, int]
    sections: tuple[str, ...]
    warm_up: int
    repetitions: int
    limit: float
    starts: int
    budget: float

    def seconds(self, *runs: Callable[[], Any], least: int = 1) -> list[list[float]]:
        """Seconds that each of some calls took, in turns, without those that warm up.

        Args:
            *runs: called without arguments; each waits for its result.
            least: repetitions, if that is more than the preset's.
        """
        times: list[list[float]] = [[] for _ in runs]
        count, end = self.warm_up + max(self.repetitions, least), np.inf
        while len(times[0]) < count and time.perf_counter() < end:
            for run, own in zip(runs, times, strict=True):
                started = time.perf_counter()
                run()
                own.append(time.perf_counter() - started)
            if len(times[0]) == self.warm_up + 1:
                end = time.perf_counter() + self.limit
        return [own[self.warm_up :] for own in times]


PRESETS = {
    "cpu": Preset(
        config="demo",
        batches=(8,),
        scaling=(1, 2, 4),
        inference=(1, 2, 4, 8),
        twin=(64, 8),
        sections=SECTIONS,
        warm_up=2,
        repetitions=20,
        limit=8.0,
        starts=3,
        budget=480.0,
    ),
    "h200": Preset(
        config="paper",
        batches=(32, 8, 64, 16),
        scaling=(1, 2, 4, 8),
        inference=(1, 4, 16, 64),
        twin=(64, 8),
        sections=("training", "inference", "startup", "scaling"),
        warm_up=3,
        repetitions=30,
        limit=15.0,
        starts=2,
        budget=570.0,
    ),
    "tiny": Preset(
        config="tiny",
        batches=(2,),
        scaling=(1, 2),
        inference=(1,),
        twin=(8, 2),
        sections=("training", "inference"),
        warm_up=1,
        repetitions=1,
        limit=0.0,
        starts=1,
        budget=300.0,
    ),
}


def make_config(preset: Preset, method: str, changes: Sequence[str] = ()) -> ConfigDict:
    """The config that is measured.

    Args:
        preset: its sizes.
        method: whose.
        changes: fields that differ, FIELD=VALUE each.

    Raises:
        UserError: a field is unknown, or its value cannot be used.
    """
    if preset.config == "demo":
        config = read_config_file(f"{ROOT}/configs/demo.py:{method}")
    else:
        config = base_config(method)
        config.name = preset.config
        if preset.config == "paper":
            config.compute_dtype = "bfloat16"
        config = apply_argument(config, RUNLOCAL if preset.config == "tiny" else None)
    change_fields(config, changes)
    check_config(config)
    return config
