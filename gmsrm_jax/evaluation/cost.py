"""What a trained row costs: parameters, operations and time of a filling, pictures of training."""

import dataclasses
import json
import pathlib
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.filler import Filler
from gmsrm_jax.methods.variables import count_parameters, variable_shapes
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.log import read_log

COST_FILE = "cost.json"
_TIMED = 5  # fillings, after one that compiles


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one row.

    Attributes:
        trained: parameters that fill and that the last stage moved.
        frozen: parameters that fill and that it left as they were.
        gflop: 10⁹ operations for one picture, by XLA's count before it optimises.
        seconds: median time of one picture, alone, on `device`.
        device: kind of the device.
        pictures: that the row's own stages were shown, shared ones left out.
        training_seconds: of these stages.
    """

    trained: int
    frozen: int
    gflop: float
    seconds: float
    device: str
    pictures: int
    training_seconds: float


def gflop_of_a_filling(config: ConfigDict) -> float:
    """10⁹ floating-point operations of filling one picture; nothing is compiled."""
    method, side = METHODS[config.method], config.image_size
    noise = {
        name: jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        for name, shape in method.noise_shapes(config).items()
    }
    image, mask = (
        jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32) for channels in (3, 1)
    )
    fill = jax.jit(lambda *given: method.fill(config, *given))
    lowered = fill.lower(variable_shapes(method, config), image, mask, noise)
    analysis: Any = lowered.cost_analysis()
    return float(analysis["flops"]) / 1e9


def cost_of(config: ConfigDict, workdir: pathlib.Path) -> Cost:
    """Measures a trained row once; later it is read from the workdir.

    Args:
        config: the row's.
        workdir: of its training.

    Raises:
        UserError: there is no trained network.
    """
    method, path = METHODS[config.method], workdir / COST_FILE
    if path.exists():
        return Cost(**json.loads(path.read_text(encoding="utf-8")))
    trained, frozen = count_parameters(method, config, variable_shapes(method, config))
    logs = [
        read_log(workdir / spec.name / "log.jsonl")
        for spec in method.stages_of(config)
        if not spec.shared
    ]
    cost = Cost(
        trained,
        frozen,
        gflop_of_a_filling(config),
        _seconds(config, workdir),
        jax.devices()[0].device_kind,
        sum(int(lines[-1]["images"]) for lines in logs if lines),
        sum(float(lines[-1]["seconds"]) for lines in logs if lines),
    )
    text = json.dumps(dataclasses.asdict(cost), indent=1)
    write_atomically(path, f"{text}\n".encode())
    return cost


def _seconds(config: ConfigDict, workdir: pathlib.Path) -> float:
    """Median time of filling the centre of one grey picture."""
    size = config.image_size
    filler = Filler(METHODS[config.method], config, load_pretrained(workdir).variables)
    image, hole = np.full((1, size, size, 3), 127, np.uint8), np.zeros((1, size, size, 1), bool)
    hole[:, size // 4 : -size // 4, size // 4 : -size // 4] = True
    numbers, times = np.zeros(1, np.uint32), []
    for _ in range(_TIMED + 1):
        start = time.perf_counter()
        filler(image, hole, numbers, numbers)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
