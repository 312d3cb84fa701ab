"""The paper's own scores: Tables I, II and IV, every cell as printed there (published.csv).

They stand beside ours in the tables, marked as the paper's. Nothing is computed from them: the
paper's test split, its masks and whether it scored composites are not published.
"""

import csv
import pathlib

from gmsrm_jax.data.masks.bins import BIN_NAMES

DATA_SETS = {"paris": "Paris StreetView", "celebahq": "CelebA-HQ256", "places2": "Places2"}
"""Name of one of our configs to the paper's name of its data set."""

METRICS = ("psnr", "ssim", "ncc", "lmse")

IRREGULAR_BINS = BIN_NAMES[2:6]
CENTRE_BINS = BIN_NAMES[6:]
ABLATION_BIN = CENTRE_BINS[1]
TABLE_BINS = {"I": IRREGULAR_BINS, "II": CENTRE_BINS, "IV": (ABLATION_BIN,)}

TYPES = {
    "PConv": "A",
    "DeepFill V2": "A",
    "EdgeConnect": "A",
    "LISK": "A",
    "LBAM": "A",
    "MEDFE": "A",
    "Lahiri et al.": "A + B",
    "GM-SRM": "A + B",
}
"""Method to the priors that it learns: A from within a picture, B from other pictures."""

FIGURE_7_METHODS = ("PConv", "DeepFill V2", "LISK", "MEDFE", "Lahiri et al.", "GM-SRM")

VARIANTS = ("Base", "GM-BM", "GM-CSV", "GM-SRM")
"""The rows of Table IV: the model without its memory, two parts of it, and the whole.

The table is of CelebA-HQ256 only, and calls the first row "Base model".
"""


def _cells() -> dict[tuple[str, ...], float]:
    text = pathlib.Path(__file__).with_suffix(".csv").read_text(encoding="utf-8")
    _, *lines = csv.reader(text.splitlines())
    return {tuple(cell): float(value) for *cell, value in lines}


PUBLISHED = _cells()
"""The value of every cell, by data set, table ("I", "II", "IV"), method, metric and bin."""
