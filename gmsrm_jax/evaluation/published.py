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

Cell = tuple[str, str, str, str, str]
"""Data set, table ("I", "II", "IV"), method, metric and bin."""


def _cells(doubtful: bool = False) -> dict[Cell, float]:
    text = pathlib.Path(__file__).with_suffix(".csv").read_text(encoding="utf-8")
    lines = list(csv.reader(text.splitlines()))[1:]
    return {
        (data_set, table, method, metric, name): float(value)
        for data_set, table, method, metric, name, value, mark in lines
        if mark or not doubtful
    }


PUBLISHED = _cells()
"""Every cell's value."""

DOUBTFUL = frozenset(_cells(doubtful=True))
"""The cells that contradict others.

10^(-PSNR/10) / LMSE estimates the mean square of the target pictures, the same for all methods of a
column. These cells are more than 35 % above or 25 % below their column's median; all other cells
are within that range.
"""
