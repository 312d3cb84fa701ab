"""Checks that a demo run learned: python tools/check_demo.py runs/demo.

In every ratio bin the filled pictures must beat the mean colour and the untrained network by a
clear margin. Prints the margins; exits with 1 if one is too small.
"""

import json
import pathlib
import sys

from gmsrm_jax.config.of_run import config_of_run
from gmsrm_jax.evaluation.rows import UNTRAINED_ROW
from gmsrm_jax.methods import CLASSICAL, METHODS

MARGIN_DB = 0.5
_OTHERS = (CLASSICAL["mean"].title, UNTRAINED_ROW)


def main(workdir: str) -> int:
    """Compares PSNR by bin, and returns the exit status."""
    path = pathlib.Path(workdir) / "evaluation" / "metrics.json"
    config = config_of_run(pathlib.Path(workdir))
    own = METHODS[config.method].row(config).title
    methods = json.loads(path.read_text(encoding="utf-8"))["methods"]
    worst = float("inf")
    for name, scores in methods[own]["composite"].items():
        mean = scores["psnr"]["mean"]
        margins = {
            other: mean - methods[other]["composite"][name]["psnr"]["mean"] for other in _OTHERS
        }
        worst = min(worst, *margins.values())
        shown = ", ".join(f"{margin:+.2f} dB over {other}" for other, margin in margins.items())
        print(f"{name}: {mean:.2f} dB, {shown}")
    if worst < MARGIN_DB:
        print(f"the smallest margin, {worst:.2f} dB, is below {MARGIN_DB} dB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
