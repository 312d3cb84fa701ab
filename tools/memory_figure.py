"""Makes a model card's figures of the memory: python tools/memory_figure.py WORKDIR --output DIR.

Writes DIR/memory_samples.png, samples of the snapshot that stage 1 kept, and
DIR/memory_distance.png, the distance on VGG features (`methods.gm_srm.distance`) over the pictures
seen, one line for each size that the memory grew through. Folders that the run's config names are
looked up from the current one, as in training.
"""

import argparse
import math
import pathlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from line_picture import lines_picture
from ml_collections import ConfigDict

from gmsrm_jax.checkpoints.store import checkpoint_folder, open_finished
from gmsrm_jax.commands.options import writing
from gmsrm_jax.config.of_run import config_of_run
from gmsrm_jax.data.loading import open_data
from gmsrm_jax.methods.base import Context, apply
from gmsrm_jax.methods.gm_srm.fields import check_growth
from gmsrm_jax.methods.gm_srm.stage_1 import MemoryStage
from gmsrm_jax.report.charts import Line
from gmsrm_jax.runtime.devices import local_mesh, replicated
from gmsrm_jax.runtime.errors import UserError, status_of
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.image_grid import grid, to_png, upscale
from gmsrm_jax.runtime.jax_setup import set_up_jax
from gmsrm_jax.runtime.log import open_text_log, read_log
from gmsrm_jax.runtime.pixels import to_bytes, to_signed
from gmsrm_jax.training.loop import abstract_state

SAMPLES_FILE, DISTANCE_FILE = "memory_samples.png", "memory_distance.png"
_DISTANCE = "validation/vgg_distance"
_COLUMNS = 6
_AT_ONCE = 16  # samples, always, so that a sample does not depend on how many are asked for
_LEAST_PIXELS = 96  # smaller samples are enlarged
_SEEDS = 2**32


@dataclass(frozen=True)
class Curve:
    """The distances of one size, at least one.

    Attributes:
        size: side of the pictures [px].
        thousands: pictures seen, those of smaller sizes counted in [10³], increasing.
        distances: one for each.
    """

    size: int
    thousands: tuple[float, ...]
    distances: tuple[float, ...]


def distance_curves(workdir: pathlib.Path, config: ConfigDict) -> list[Curve]:
    """Reads the distances of a run and of those that it grew from, the smallest size first.

    Raises:
        UserError: a workdir is missing, is no smaller one of the same kind, or has no distances.
    """
    grown = [(workdir, config)]
    while grown[0][1].memory.grow_from:
        larger, own = grown[0]
        smaller = pathlib.Path(own.memory.grow_from)
        if not smaller.is_dir():
            raise UserError(
                f"{larger}: config.memory.grow_from = '{smaller}' does not exist; call from the "
                "folder that the run was started in"
            )
        grown.insert(0, (smaller, config_of_run(smaller)))
        check_growth(own, grown[0][1])
    curves, before = [], 0.0
    for folder, own in grown:
        path = folder / MemoryStage.name / "log.jsonl"
        lines = read_log(path)
        scored = [line for line in lines if line.get(_DISTANCE) is not None]
        if not scored:
            raise UserError(
                f"{path}: holds no {_DISTANCE}; train it with --stage=memory to its first "
                f"validation, step {own.memory.validate_every}"
            )
        thousands = tuple((before + line["images"]) / 1000 for line in scored)
        curves.append(Curve(own.image_size, thousands, tuple(line[_DISTANCE] for line in scored)))
        before += lines[-1]["images"]
    return curves


def read_snapshot(workdir: pathlib.Path, stage: MemoryStage, seed: int) -> dict[str, Any]:
    """Reads what stage 1 has kept by its newest good checkpoint, `kept` of its state.

    Args:
        workdir: the run's folder.
        stage: its stage 1.
        seed: any; only shapes come of it.

    Raises:
        UserError: there is no checkpoint, or none of its steps was validated.
    """
    folder = checkpoint_folder(workdir, stage.name)
    checkpoints, step = open_finished(folder, "train it with --stage=memory first")
    target = {"kept": abstract_state(stage, seed, {}).kept}
    kept = checkpoints.restore_items(step, target, replicated(local_mesh()))["kept"]
    checkpoints.finish()
    kept = jax.device_get(kept)
    if not math.isfinite(kept["distance"]):
        raise UserError(
            f"{folder}/{step} was saved before the first validation, so that no snapshot is kept; "
            f"let it train to step {stage.validate_every}"
        )
    return kept


def draw_samples(stage: MemoryStage, generator: Any, count: int, seed: int) -> np.ndarray:
    """Samples of a memory; sample k depends on the seed and k alone, and is not truncated.

    Args:
        stage: supplies the network, and with the encoder source the pictures it is asked with, in
            turn.
        generator: its weights.
        count: number of samples, at least 1.
        seed: of codes and noise.

    Returns:
        uint8 [count, S, S, 3].
    """
    asked = stage.validation

    def draw(
        weights: Any, key: jax.Array, number: jax.Array, image: jax.Array, mask: jax.Array
    ) -> jax.Array:
        keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(number)
        inputs = jax.vmap(lambda key: stage.trained.draw_inputs(key, 1))(keys)
        latent, noise = jax.tree.map(lambda leaf: leaf[:, 0], inputs)
        shown = (to_signed(image), mask.astype(jnp.float32))
        return apply(stage.trained.exact_generator, weights, *shown, latent, noise)

    # It runs once or twice, and takes longer to optimise than to run.
    compiled = jax.jit(draw, compiler_options={"xla_backend_optimization_level": "0"})
    key = jax.random.key(seed)
    batches = []
    for start in range(0, count, _AT_ONCE):
        number = np.arange(start, start + _AT_ONCE, dtype=np.int32)
        rows = number % len(asked["image"])
        image, mask = asked["image"][rows], asked["mask"][rows]
        batches.append(compiled(generator, key, number, image, mask))
    return to_bytes(np.concatenate(batches)[:count])


def distance_chart(curves: Sequence[Curve]) -> np.ndarray:
    """Draws the distances over the pictures seen, uint8 [H, W, 3], with a legend above."""
    lines = [Line(f"{curve.size} px", curve.thousands, curve.distances) for curve in curves]
    all_sizes = ", smaller sizes counted in" if len(curves) > 1 else ""
    return lines_picture(
        lines, f"thousands of pictures seen{all_sizes}", "distance on VGG features"
    )


def make_figures(workdir: pathlib.Path, output: pathlib.Path, count: int, seed: int) -> str:
    """Writes both pictures, and returns what was written from what, one line.

    Raises:
        UserError: an option or the workdir cannot be used, or the folder cannot be written.
    """
    if count < 1:
        raise UserError(f"--samples={count}; use 1 or more")
    if not 0 <= seed < _SEEDS:
        raise UserError(f"--seed={seed}; use 0 to {_SEEDS - 1}")
    config = config_of_run(workdir)
    curves = distance_curves(workdir, config)
    config.inpainting.vgg = "bundled"  # no distance is taken here
    stage = MemoryStage(config, Context(1, _asked_with(config)))
    kept = read_snapshot(workdir, stage, config.seed)
    samples = draw_samples(stage, kept["generator"], count, seed)
    enlarged = upscale(samples, -(-_LEAST_PIXELS // config.image_size))
    pictures = {SAMPLES_FILE: grid(enlarged, _COLUMNS), DISTANCE_FILE: distance_chart(curves)}
    with writing(output, "--output"):
        for name, picture in pictures.items():
            write_atomically(output / name, to_png(picture))
    last = ", ".join(f"{curve.size} px {curve.distances[-1]:.3f}" for curve in curves)
    return (
        f"{output}: {SAMPLES_FILE}, {count} of the snapshot of step {int(kept['step'])} (distance "
        f"{float(kept['distance']):.3f}), and {DISTANCE_FILE}; last distance: {last}"
    )


def _asked_with(config: ConfigDict) -> dict[str, np.ndarray]:
    """The pictures kept aside; blank for a memory whose codes do not come from pictures."""
    if config.memory.code_source == "encoder":
        return open_data(config).validation()
    shape = (1, config.image_size, config.image_size)
    return {"image": np.zeros((*shape, 3), np.uint8), "mask": np.zeros((*shape, 1), np.uint8)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the pictures and returns the exit status, 2 after an error that is one line."""
    parser = argparse.ArgumentParser(
        description="Makes a model card's figures of the memory.", allow_abbrev=False
    )
    add = parser.add_argument
    add("workdir", type=pathlib.Path, metavar="WORKDIR", help="of a training with stage 1")
    add("--samples", type=int, default=12, help="in the first picture (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the samples (default: %(default)s)")
    add("--output", type=pathlib.Path, required=True, metavar="DIR", help="gets both pictures")
    args = parser.parse_args(arguments)
    # What libraries tell their developers; what goes wrong there is raised as an exception.
    logging.set_verbosity(logging.FATAL)
    open_text_log(None)
    set_up_jax("default")
    given = (args.workdir, args.output, args.samples, args.seed)
    return status_of("memory_figure", lambda: print(make_figures(*given)))


if __name__ == "__main__":
    sys.exit(main())
