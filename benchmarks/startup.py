"""Times how long programs take to start: imports, `gmsrm inpaint`, and training's first step."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from benchmarks.filling import weights
from benchmarks.hardware import summary
from benchmarks.presets import ROOT, Preset
from benchmarks.stages import random_pictures
from benchmarks.training import Emit
from gmsrm_jax.networks import save_pretrained

_IMPORTS = ("import gmsrm_jax", "from gmsrm_jax import Inpainter")
TARGETS = {"warm": 5.0, "cold": 18.0}  # seconds of `gmsrm inpaint` on two cores


def measure_startup(
    preset: Preset,
    config: ConfigDict,
    emit: Emit,
    *,
    checkpoint: str | None,
    stages: list[str],
    training: dict[str, Any],
) -> None:
    """Emits rows of starts in fresh processes; this one never takes hold of a device.

    Args:
        preset: repetitions.
        config: of random weights.
        emit: takes a row.
        checkpoint: see `filling.weights`.
        stages: names of the stages whose first step is timed.
        training: {"preset", "method", "set"} of their config.
    """
    for line in _IMPORTS:
        times = [_run([sys.executable, "-c", line]) for _ in range(preset.starts)]
        emit({"section": "startup", "program": line, "cache": "-", **summary(times)})
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        _measure_inpaint(preset, config, emit, checkpoint, folder)
        for stage in stages:
            cache = folder / f"cache_{stage}"
            for kind in ("cold", "warm"):
                emit(
                    {
                        "section": "startup",
                        "program": "first step of a training",
                        "cache": kind,
                        "n": 1,
                        **_first_step(training, stage, cache, folder / "row.jsonl"),
                    }
                )


def _measure_inpaint(
    preset: Preset, config: ConfigDict, emit: Emit, checkpoint: str | None, folder: pathlib.Path
) -> None:
    network = weights(config, checkpoint)
    size = network.config.image_size
    exported = folder / "exported"
    save_pretrained(exported, network)
    pictures = random_pictures(1, size)
    Image.fromarray(pictures["image"][0]).save(folder / "image.png")
    Image.fromarray(pictures["mask"][0, ..., 0] * np.uint8(255)).save(folder / "mask.png")
    for kind in ("cold", "warm"):
        times = []
        for number in range(1 if kind == "cold" else preset.starts):
            command = [sys.executable, "-m", "gmsrm_jax.cli", "inpaint"]
            command += ["--image", f"{folder}/image.png", "--mask", f"{folder}/mask.png"]
            command += ["--output", f"{folder}/{kind}{number}.png", "--checkpoint", str(exported)]
            times.append(_run(command, folder / "cache_inpaint"))
        emit(
            {
                "section": "startup",
                "program": "gmsrm inpaint, one picture",
                "cache": kind,
                "size": size,
                "weights": network.source,
                "target_seconds": TARGETS[kind],
                **summary(times),
            }
        )


def _first_step(
    training: dict[str, Any], stage: str, cache: pathlib.Path, rows: pathlib.Path
) -> dict[str, Any]:
    rows.unlink(missing_ok=True)
    job = {"job": "first_step", **training, "stage": stage, "started_at": time.time()}
    _run([sys.executable, "-m", "benchmarks.job", json.dumps(job), str(rows)], cache)
    return json.loads(rows.read_text(encoding="utf-8"))


def _run(command: list[str], cache: pathlib.Path | None = None) -> float:
    """Runs a command to its end, with a compile cache of its own, and returns the seconds."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    started = time.perf_counter()
    done = subprocess.run(
        command, check=False, env=environment, cwd=ROOT, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        shown = " ".join(command[1:4])[:80]
        raise RuntimeError(f"{shown} ended with status {done.returncode}: {lines[-1]}")
    return seconds
