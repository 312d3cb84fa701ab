"""What `bench` measures where: sizes, batches, repetitions."""

import dataclasses
import pathlib
import runpy

from ml_collections import ConfigDict

from gmsrm_jax.config.fields import base_config, runlocal

ROOT = pathlib.Path(__file__).parent.parent
SECTIONS = ("training", "scaling", "inference", "startup", "twin")
ALL_PROGRAMS = {"memory": ("main", "path", "r1"), "inpainting": ("main",)}


@dataclasses.dataclass(frozen=True)
class Preset:
    """Sizes and repetitions of a run.

    Attributes:
        config: "demo" (configs/demo.py), "paper" (256 px, channel base 16384, bfloat16) or "tiny".
        training: (stage, batch, programs) in the order of their importance.
        scaling: numbers of devices for stage 1's main program.
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
    training: tuple[tuple[str, int, tuple[str, ...]], ...]
    scaling: tuple[int, ...]
    inference: tuple[int, ...]
    twin: tuple[int, int]
    sections: tuple[str, ...]
    warm_up: int
    repetitions: int
    limit: float
    starts: int
    budget: float


_MAIN = ("main",)
PRESETS = {
    "cpu": Preset(
        config="demo",
        training=(("memory", 8, ALL_PROGRAMS["memory"]), ("inpainting", 8, _MAIN)),
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
        training=(
            ("memory", 32, ALL_PROGRAMS["memory"]),
            ("inpainting", 32, _MAIN),
            ("inpainting", 8, _MAIN),
            ("memory", 64, _MAIN),
            ("inpainting", 64, _MAIN),
            ("memory", 16, _MAIN),
            ("inpainting", 16, _MAIN),
            ("memory", 8, _MAIN),
        ),
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
        training=(("inpainting", 2, _MAIN),),
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


def make_config(name: str) -> ConfigDict:
    """The config of a preset, unlocked."""
    if name == "demo":
        config = ConfigDict(runpy.run_path(str(ROOT / "configs" / "demo.py"))["get_config"]())
        config.unlock()
        return config
    config = base_config()
    if name == "paper":
        config.name, config.compute_dtype = "paper", "bfloat16"
        return config
    runlocal(config)
    config.name = "tiny"
    config.model.channel_base, config.model.channel_max = 128, 8
    config.inpainting.discriminator_features = (4, 6, 8, 8)
    return config
