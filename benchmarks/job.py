"""One measurement in a process of its own: `python -m benchmarks.job JOB ROWS`.

JOB is JSON, {"job": kind, "preset": name, …}; a JSON line for each row is appended to the file
ROWS as soon as it is known, so that a process that dies keeps what it had.
"""

import json
import sys
from typing import Any

from benchmarks.presets import PRESETS


def main() -> None:
    """Runs the job that the arguments describe."""
    job, path = json.loads(sys.argv[1]), sys.argv[2]
    kind, name = job.pop("job"), job.pop("preset")
    preset = PRESETS[name]

    def emit(row: dict[str, Any]) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    # Each job imports what it needs: the start of a process is one of the things measured.
    if kind == "startup":
        from benchmarks.startup import measure_startup

        measure_startup(preset, emit, name=name, **job)
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
    elif kind == "training":
        from benchmarks.training import measure_training

        measure_training(preset, emit, **job)
    elif kind == "first_step":
        from benchmarks.training import measure_first_step

        measure_first_step(preset, emit, **job)
    elif kind == "inference":
        from benchmarks.filling import measure_filling

        measure_filling(preset, emit, **job)
    elif kind == "twin":
        from benchmarks.twin import measure_twin

        measure_twin(preset, emit, **job)
    else:
        raise ValueError(f"job {kind!r} is unknown")


if __name__ == "__main__":
    main()
