"""What an evaluation comes to, a line each: which row is best, whether a fine-tuning helped."""

import io
import math
from pathlib import Path
from typing import Any

from gmsrm_jax.evaluation.evaluate import PER_IMAGE_FILE
from gmsrm_jax.runtime.counts import count_of

_SURE = 0.95


def begun_row(name: str) -> str:
    """The row of the weights that a training began with, by what people call them."""
    return f"before, {Path(name).name}"


def best_line(metrics: dict[str, Any]) -> str:
    """One line on which row has the best PSNR in which bins.

    Args:
        metrics: what metrics.json holds.

    Returns:
        The line; "" if there are no two rows to compare.
    """
    best: dict[str, list[str]] = {}
    for name in metrics["mask_list"]["bins"]:
        means = {
            method: kinds["composite"][name]["psnr"]["mean"]
            for method, kinds in metrics["methods"].items()
        }
        known = {method: mean for method, mean in means.items() if mean is not None}
        if len(known) > 1:
            best.setdefault(max(known, key=lambda method: known[method]), []).append(name)
    winners = "; ".join(f"{method} in {', '.join(bins)}" for method, bins in best.items())
    return winners and f"best PSNR of {len(metrics['methods'])} rows: {winners}"


def gain_line(folder: Path, metrics: dict[str, Any]) -> str:
    """One line on whether the weights fill better than those that they began with.

    The difference of PSNR of each hole is averaged over the holes of a picture, and then over the
    pictures, whose spread says how sure it is (Student's t).

    Args:
        folder: of the evaluation.
        metrics: what its metrics.json holds.

    Returns:
        The line; "" if there is nothing to compare with.
    """
    begun = metrics["facts"].get("began_with")
    if not begun:
        return ""
    import pandas as pd
    from scipy import stats

    table = pd.read_csv(io.BytesIO((folder / PER_IMAGE_FILE).read_bytes()), dtype={"picture": str})
    scores = table.pivot(index=["picture", "mask_index"], columns="method", values="psnr")
    row = begun_row(begun["name"])
    own = next(name for name in metrics["methods"] if name != row)
    gains = (scores[own] - scores[row]).groupby("picture").mean()
    count, mean = len(gains), float(gains.mean())
    margin = math.inf
    if count > 1:
        margin = float(stats.t.ppf((1 + _SURE) / 2, count - 1) * gains.sem())
    said = "it helped" if mean > 0 else f"it did harm, {begun['name']} is better"
    if not abs(mean) > margin:
        said = "no clear difference, more test pictures would tell"
    spread = "" if math.isinf(margin) else f" ± {margin:.2f}"
    pictures = count_of(count, "test picture")
    return (
        f"against {begun['name']}, which it began with: PSNR {mean:+.2f}{spread} dB on {pictures}: "
        f"{said}"
    )
