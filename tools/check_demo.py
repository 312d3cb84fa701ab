"""Checks that a demo run learned: python tools/check_demo.py runs/demo.

In every ratio bin the filled pictures must beat the mean colour and the untrained network by a
clear margin. Prints the margins; exits with 1 if one is too small.
"""

import json
import pathlib
import sys

MARGIN_DB = 0.5


def main(workdir: str) -> int:
    """Compares PSNR by bin, and returns the exit status."""
    path = pathlib.Path(workdir) / "evaluation" / "metrics.json"
    methods = json.loads(path.read_text(encoding="utf-8"))["methods"]
    worst = float("inf")
    for name, scores in methods["GM-SRM"]["composite"].items():
        mean = scores["psnr"]["mean"]
        margins = {
            other: mean - methods[other]["composite"][name]["psnr"]["mean"]
            for other in ("mean colour", "untrained network")
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
