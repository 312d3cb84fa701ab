"""Times the filling of holes: the bare network, and the class that people call."""

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.hardware import summary
from benchmarks.presets import Preset
from benchmarks.stages import random_pictures
from benchmarks.training import Emit
from gmsrm_jax import Inpainter
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.variables import variable_shapes
from gmsrm_jax.networks import Pretrained, load_pretrained
from gmsrm_jax.networks.folder import pretrained
from gmsrm_jax.runtime.pixels import to_signed

RANDOM = "random weights"


def weights(config: ConfigDict, name: str | None) -> Pretrained:
    """The network to fill with.

    Args:
        config: whose shapes random weights are drawn for, without any device.
        name: see `load_pretrained`; None: random weights.
    """
    if name is not None:
        return load_pretrained(name, offline=True)
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[1].key != "params":  # a norm's moments; a variance is positive
            return np.ones(leaf.shape, np.float32)
        scale = 1.0 / np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.0
        return scale * rng.standard_normal(leaf.shape, np.float32)

    shapes = variable_shapes(METHODS[config.method], config)
    return pretrained(config, jax.tree_util.tree_map_with_path(draw, shapes), RANDOM)


def measure_filling(
    preset: Preset, config: ConfigDict, emit: Emit, *, checkpoint: str | None
) -> None:
    """Emits rows of the bare network by batch, and of the Inpainter alone and in a stream.

    The bare network has its inputs on the device and leaves its output there. At batch 1 it takes
    turns with the Inpainter, which takes and gives uint8 arrays of the network's size.

    Args:
        preset: batches and repetitions.
        config: of random weights.
        emit: takes a row.
        checkpoint: see `weights`.
    """
    given = weights(config, checkpoint)
    inpainter = Inpainter(given, max_batch=max(preset.inference))
    size = inpainter.size
    variables = jax.device_put(given.variables)
    # As the Inpainter compiles it.
    options = {"xla_backend_optimization_level": 1} if inpainter.device == "cpu" else None
    program = jax.jit(partial(given.method.fill, given.config), compiler_options=options)
    shapes = given.method.noise_shapes(given.config)
    common = {"section": "inference", "size": size, "dtype": "float32", "weights": given.source}
    best_batch, best_rate = 1, 0.0
    pictures = random_pictures(1, size)
    image, mask = pictures["image"][0], pictures["mask"][0, ..., 0] * np.uint8(255)
    for batch in preset.inference:
        noise = {
            name: jax.random.normal(key, (batch, *shape))
            for key, (name, shape) in zip(
                jax.random.split(jax.random.key(0), len(shapes)), shapes.items(), strict=True
            )
        }
        rows = random_pictures(batch, size)
        inputs = (
            jnp.asarray(to_signed(rows["image"])),
            jnp.asarray(rows["mask"], jnp.float32),
            noise,
        )
        bare: list[float] = []
        whole: list[float] = []
        end = np.inf
        least = 20 if batch == 1 and preset.limit else 1
        count = preset.warm_up + max(preset.repetitions, least)
        while len(bare) < count and time.perf_counter() < end:
            started = time.perf_counter()
            jax.block_until_ready(program(variables, *inputs))
            bare.append(time.perf_counter() - started)
            if batch == 1:
                started = time.perf_counter()
                inpainter(image, mask, seed=len(whole))
                whole.append(time.perf_counter() - started)
            if len(bare) == preset.warm_up + 1:
                end = time.perf_counter() + preset.limit
        bare, whole = bare[preset.warm_up :], whole[preset.warm_up :]
        rate = batch / float(np.median(bare))
        lowered: Any = program.lower(variables, *inputs)
        emit(
            {
                **common,
                "program": "bare network",
                "batch": batch,
                "devices": 1,
                "flops": lowered.cost_analysis()["flops"],
                **summary(bare),
                "images_per_second": rate,
            }
        )
        if whole:
            one = float(np.median(whole))
            ratio = float(np.median(np.asarray(whole) / np.asarray(bare)))
            emit(
                {
                    **common,
                    "program": "Inpainter",
                    "batch": batch,
                    "devices": 1,
                    **summary(whole),
                    "images_per_second": 1 / one,
                    "times_bare_network": ratio,
                }
            )
        if rate > best_rate:
            best_batch, best_rate = batch, rate
    count = 4 * best_batch
    stream = Inpainter(given, max_batch=best_batch)
    stream.warm_up(best_batch)
    started = time.perf_counter()
    list(stream.batch([(image, mask)] * count))
    seconds = time.perf_counter() - started
    emit(
        {
            **common,
            "program": "Inpainter.batch",
            "batch": best_batch,
            "devices": 1,
            "seconds_median": seconds / count * best_batch,
            "n": 4,
            "images_per_second": count / seconds,
            "times_bare_network": best_rate * seconds / count,
        }
    )
