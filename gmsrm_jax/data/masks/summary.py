"""What a set of masks is like: how its hole ratios are spread, and a sheet to look at."""

import numpy as np
from PIL import Image, ImageDraw

from gmsrm_jax.data.masks.bins import RATIO_BINS, bin_name, ratio_bin
from gmsrm_jax.data.masks.sets import MaskSet
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.image_grid import grid

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
SHEET_MASKS = 48
_COLUMNS = 8
_TILE = 128  # px
_CAPTION = 14  # px
_BAR = 40  # characters
_GREY = 128


def histogram(ratios: np.ndarray) -> dict[str, int]:
    """Counts masks by hole ratio.

    Args:
        ratios: float64 [N].

    Returns:
        Name and count of: "no hole", the bins of `bins.RATIO_BINS`, and ">60%"; N in all.
    """
    rows = ["no hole", *(bin_name(index) for index in range(len(RATIO_BINS))), ">60%"]
    counts = dict.fromkeys(rows, 0)
    for ratio in ratios:
        index = ratio_bin(float(ratio))
        above = ">60%" if ratio > 0.0 else "no hole"
        counts[above if index is None else bin_name(index)] += 1
    return counts


def describe(masks: MaskSet) -> str:
    """Returns count, mean, standard deviation, quantiles and histogram of the ratios as text."""
    ratios = masks.ratios()
    percent = 100.0 * ratios
    heads = " / ".join(f"{100 * quantile:g}" for quantile in QUANTILES)
    values = " / ".join(f"{value:.1f}" for value in np.quantile(percent, QUANTILES))
    counts = histogram(ratios)
    most = max(counts.values())
    lines = [
        f"{count_of(len(masks), 'mask')} of {masks.size} px: {masks.source}",
        f"hole ratio: mean {percent.mean():.2f} %, sd {percent.std():.2f} %",
        f"quantiles {heads} %: {values} %",
    ]
    for name, count in counts.items():
        bar = "#" * round(_BAR * count / most)
        lines.append(f"{name:>8} {count:7d} {100 * count / len(masks):5.1f} %  {bar}".rstrip())
    return "\n".join(lines)


def contact_sheet(masks: MaskSet) -> np.ndarray:
    """Shows up to 48 masks, evenly spread over the set in the order of their ratios.

    Each is shown at 128 px, white in the hole, in a grey frame, its ratio below it.

    Returns:
        uint8 [H, W, 3], W = 132 C - 2, H = 146 R - 2 with C = min(8, n) columns and R = ceil(n / 8)
        rows of n masks.
    """
    ratios = masks.ratios()
    order = np.argsort(ratios, kind="stable")
    shown = order[np.linspace(0, len(order) - 1, min(len(order), SHEET_MASKS)).round().astype(int)]
    return grid(np.stack([_tile(masks.mask(index), ratios[index]) for index in shown]), _COLUMNS)


def _tile(mask: np.ndarray, ratio: float) -> np.ndarray:
    """Returns a mask with frame and caption, uint8 [144, 130, 3]."""
    # A box keeps thin strokes visible in a smaller picture, as grey.
    shrink = mask.shape[0] > _TILE
    resampling = Image.Resampling.BOX if shrink else Image.Resampling.NEAREST
    picture = Image.fromarray(mask[..., 0] * np.uint8(255)).resize((_TILE, _TILE), resampling)
    tile = Image.new("L", (_TILE + 2, _TILE + 2 + _CAPTION), 255)
    tile.paste(_GREY, (0, 0, _TILE + 2, _TILE + 2))
    tile.paste(picture, (1, 1))
    ImageDraw.Draw(tile).text((2, _TILE + 2), f"{100 * ratio:.1f} %", fill=0)
    return np.asarray(tile.convert("RGB"))
