"""Times the filling of holes: the bare network, and the class that people call."""

import itertools
import time
from collections.abc import Callable
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
    common = {
        "section": "inference",
        "size": size,
        "dtype": "float32",
        "weights": given.source,
        "devices": 1,
    }
    pictures = random_pictures(1, size)
    image, mask = pictures["image"][0], pictures["mask"][0, ..., 0] * np.uint8(255)
    seeds = itertools.count()
    rates: dict[int, float] = {}
    for batch in preset.inference:
        bare, flops = _bare_network(given, inpainter, batch)
        turns = [bare, lambda: inpainter(image, mask, seed=next(seeds))] if batch == 1 else [bare]
        times, *whole = preset.seconds(*turns, least=20 if batch == 1 and preset.limit else 1)
        rates[batch] = batch / float(np.median(times))
        emit(
            {
                **common,
                "program": "bare network",
                "batch": batch,
                "flops": flops,
                **summary(times),
                "images_per_second": rates[batch],
            }
        )
        for own in whole:
            emit(
                {
                    **common,
                    "program": "Inpainter",
                    "batch": batch,
                    **summary(own),
                    "images_per_second": 1 / float(np.median(own)),
                    "times_bare_network": float(np.median(np.asarray(own) / np.asarray(times))),
                }
            )
    best = max(rates, key=rates.__getitem__)
    emit({**common, **_stream(given, image, mask, best, rates[best])})


def _bare_network(
    given: Pretrained, inpainter: Inpainter, batch: int
) -> tuple[Callable[[], Any], float]:
    """A call that fills a batch on the device, and its floating-point operations."""
    variables = jax.device_put(given.variables)
    # As the Inpainter compiles it.
    options = {"xla_backend_optimization_level": 1} if inpainter.device == "cpu" else None
    program = jax.jit(partial(given.method.fill, given.config), compiler_options=options)
    shapes = given.method.noise_shapes(given.config)
    keys = jax.random.split(jax.random.key(0), len(shapes))
    noise = {
        name: jax.random.normal(key, (batch, *shape))
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    rows = random_pictures(batch, inpainter.size)
    image = jnp.asarray(to_signed(rows["image"]))
    inputs = (variables, image, jnp.asarray(rows["mask"], jnp.float32), noise)
    lowered: Any = program.lower(*inputs)
    return lambda: jax.block_until_ready(program(*inputs)), lowered.cost_analysis()["flops"]


def _stream(
    given: Pretrained, image: np.ndarray, mask: np.ndarray, batch: int, bare_rate: float
) -> dict[str, Any]:
    """The row of four batches in a stream; `bare_rate` is the bare network's, pictures a second."""
    count = 4 * batch
    stream = Inpainter(given, max_batch=batch)
    stream.warm_up(batch)
    started = time.perf_counter()
    list(stream.batch([(image, mask)] * count))
    seconds = time.perf_counter() - started
    return {
        "program": "Inpainter.batch",
        "batch": batch,
        "seconds_median": seconds / count * batch,
        "n": 4,
        "images_per_second": count / seconds,
        "times_bare_network": bare_rate * seconds / count,
    }
