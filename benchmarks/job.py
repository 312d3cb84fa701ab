"""One measurement in a process of its own: `python -m benchmarks.job JOB ROWS`.

JOB is JSON, {"job": kind, "preset": name, "method": name, "set": [FIELD=VALUE, …], …}; a JSON line
for each row is appended to the file ROWS as soon as it is known, so that a process that dies keeps
what it had.
"""

import json
import pathlib
import sys
import tempfile
from typing import Any

from benchmarks.presets import PRESETS, make_config


def main() -> None:
    """Runs the job that the arguments describe."""
    job, path = json.loads(sys.argv[1]), sys.argv[2]
    kind, name, method, changes = (job.pop(key) for key in ("job", "preset", "method", "set"))
    preset = PRESETS[name]

    def emit(row: dict[str, Any]) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    # Each job imports what it needs: the start of a process is one of the things measured.
    if kind == "startup":
        from benchmarks.startup import measure_startup

        config = make_config(preset, method, changes)
        training = {"preset": name, "method": method, "set": changes}
        measure_startup(preset, config, emit, training=training, **job)
        return
    from gmsrm_jax.runtime.jax_setup import set_up_jax

    set_up_jax("default")
    if kind == "machine":
        from benchmarks import hardware

        emit(
            {
                "hardware": hardware.describe_hardware(),
                "versions": hardware.describe_versions(),
                "matrix_rate": hardware.matrix_rate(preset.limit / 4),
            }
        )
        return
    config = make_config(preset, method, changes)
    if kind in ("training", "first_step"):
        from benchmarks.stages import with_random_vgg19
        from benchmarks.training import measure_first_step, measure_training

        with tempfile.TemporaryDirectory() as folder:
            with_random_vgg19(config, pathlib.Path(folder))
            if kind == "training":
                measure_training(preset, config, emit, **job)
            else:
                measure_first_step(config, emit, **job)
    elif kind == "inference":
        from benchmarks.filling import measure_filling

        measure_filling(preset, config, emit, **job)
    elif kind == "use":
        from benchmarks.use import measure_use

        measure_use(preset, emit, **job)
    elif kind == "twin":
        from benchmarks.twin import measure_twin

        measure_twin(preset, config, emit, **job)
    else:
        raise ValueError(f"job {kind!r} is unknown")


if __name__ == "__main__":
    main()
