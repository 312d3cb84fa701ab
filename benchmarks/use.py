"""Times what people do: a picture of 128 px and a photograph, with the bundled weights.

Beside each stands a network of big-LaMa's architecture on the same number of pixels and threads,
counted in the same way.
"""

import json
import os
import pathlib
import subprocess
import time
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.presets import Preset
from benchmarks.training import Emit
from gmsrm_jax import Inpainter
from gmsrm_jax.assets import asset_path

SIZES = ((128, 128), (512, 910))  # height, width
_MOST = 3  # repetitions: big-LaMa's network takes many seconds for the larger one


def facade(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A bundled picture scaled to a size, and a hole of 15 % of it.

    Returns:
        uint8 [H, W, 3] and bool [H, W].
    """
    with Image.open(min(asset_path("facades/test").glob("*.jpg"))) as image:
        picture = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    hole = np.zeros((height, width), bool)
    hole[height // 4 : height * 3 // 4, width // 4 : width * 11 // 20] = True
    return np.asarray(picture), hole


def time_lama(python: str, size: tuple[int, int], *options: str) -> dict[str, Any]:
    """What `lama_twin.py` says of height and width [px], in a Python that has PyTorch."""
    twin = pathlib.Path(__file__).with_name("lama_twin.py")
    command = [python, str(twin), *map(str, size), *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_use(preset: Preset, emit: Emit, *, torch_python: str | None) -> None:
    """Emits a row for each of `SIZES`, and of big-LaMa's network.

    Args:
        preset: how often.
        emit: takes a row.
        torch_python: a Python with PyTorch; None leaves the other network out.
    """
    repeats, threads = min(_MOST, preset.repetitions), len(os.sched_getaffinity(0))
    inpainter = Inpainter.from_pretrained()

    def row(program: str, size: tuple[int, int], **fields: Any) -> None:
        height, width = size
        common = {"section": "use", "program": program, "threads": threads, "n": repeats}
        emit({**common, "pixels": f"{height} x {width}", **fields})

    for size in SIZES:
        picture, hole = facade(*size)
        inpainter(picture, hole)  # compiles
        seconds, cpu = [], []
        for seed in range(repeats):
            began, began_cpu = time.perf_counter(), time.process_time()
            strategy = inpainter(picture, hole, seed=seed).strategy
            seconds.append(time.perf_counter() - began)
            cpu.append(time.process_time() - began_cpu)
        own = {"seconds_min": min(seconds), "cpu_seconds": min(cpu)}
        row(f"{inpainter.source}, {strategy}", size, **own)
    for size in SIZES if torch_python else ():
        answer = time_lama(str(torch_python), size, f"--threads={threads}", f"--repeats={repeats}")
        taken = {"seconds_min": answer["seconds"], "cpu_seconds": answer["cpu_seconds"]}
        row(f"big-LaMa's network, {answer['parameters'] / 1e6:.0f} M", size, **taken)
