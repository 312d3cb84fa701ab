"""What an evaluation comes to, a line each: which row is best, whether a fine-tuning helped."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmsrm_jax.evaluation.evaluate import PER_IMAGE_FILE
from gmsrm_jax.runtime.counts import count_of

if TYPE_CHECKING:
    import pandas as pd

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
    pictures, whose spread says how sure it is (Student's t). Likewise how much nearer to 1
    sharpness is: an adversarial phase buys it with PSNR, so where the two disagree the eye decides.

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

    table = pd.read_csv(io.BytesIO((folder / PER_IMAGE_FILE).read_bytes()), dtype={"picture": str})
    row = begun_row(begun["name"])
    own = next(name for name in metrics["methods"] if name != row)
    before, now = (
        table[table["method"] == name].set_index(["picture", "mask_index"]) for name in (row, own)
    )
    gain = _mean_and_margin(now["psnr"] - before["psnr"])
    off, still_off = ((scores["sharpness"] - 1).abs() for scores in (before, now))
    nearer = _mean_and_margin(off - still_off)
    better, sharper = (_sign_if_clear(*change) for change in (gain, nearer))
    said = "no clear difference, more test pictures would tell"
    if better * sharper < 0:
        said = "they disagree, so compare the pictures"
    elif better:
        said = "it helped" if better > 0 else f"it did harm, {begun['name']} is better"
    elif sharper:
        said = "it helped sharpness" if sharper > 0 else "it did harm to sharpness"
    spread = "" if math.isinf(gain[1]) else f" ± {gain[1]:.2f}"
    pictures = count_of(before.index.get_level_values("picture").nunique(), "test picture")
    scored = off.notna() & still_off.notna()
    sharpness = ""
    if scored.any():
        means = f"{off[scored].mean():.2f}, now {still_off[scored].mean():.2f}"
        sharpness = f", sharpness was off by {means},"
    return (
        f"against {begun['name']}, which it began with: PSNR {gain[0]:+.2f}{spread} dB{sharpness} "
        f"on {pictures}: {said}"
    )


def _mean_and_margin(differences: "pd.Series") -> tuple[float, float]:
    """The mean over pictures of differences by picture and hole, and half its 95 % interval."""
    from scipy import stats

    means = differences.groupby("picture").mean().dropna()
    count = len(means)
    margin = math.inf
    if count > 1:
        margin = float(stats.t.ppf((1 + _SURE) / 2, count - 1) * means.sem())
    return float(means.mean()), margin


def _sign_if_clear(mean: float, margin: float) -> int:
    return int(math.copysign(1, mean)) if abs(mean) > margin else 0
