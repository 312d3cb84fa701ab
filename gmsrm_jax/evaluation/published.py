"""The paper's own scores: Tables I, II and IV, every cell as printed there.

They stand beside ours in the tables, marked as the paper's. Nothing is computed from them: the
paper's test split, its masks and whether it scored composites are not published.
"""

from typing import NamedTuple

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

# Columns: the bins of Paris StreetView, then of CelebA-HQ256, then of Places2.
_TABLE_I = {
    "psnr": """
PConv         | 26.85 24.66 22.67 20.52 | 28.29 26.11 23.90 21.47 | 25.05 22.99 21.11 19.04
DeepFill V2   | 26.29 23.99 21.86 19.79 | 27.81 25.52 23.19 20.64 | 25.15 23.00 20.94 18.68
EdgeConnect   | 27.62 25.39 23.19 20.86 | 28.53 26.14 23.53 20.38 | 25.75 23.64 21.66 19.46
LISK          | 25.04 23.10 21.15 19.00 | 30.22 27.63 24.95 21.51 | 27.04 24.68 22.35 19.77
LBAM          | 27.54 25.25 23.09 20.84 | 28.86 26.55 24.22 21.68 | 25.69 23.46 21.41 19.21
MEDFE         | 27.23 24.78 22.30 19.84 | 25.50 24.10 22.31 20.04 | 24.84 23.38 21.38 18.27
Lahiri et al. | 27.26 24.71 22.76 20.58 | 27.96 25.89 24.73 21.26 | 25.54 23.51 21.60 19.41
GM-SRM        | 29.04 26.79 24.51 22.20 | 30.23 27.91 25.51 22.70 | 27.09 24.93 22.91 20.60
""",
    "ssim": """
PConv         | 0.861 0.795 0.711 0.622 | 0.896 0.847 0.783 0.711 | 0.844 0.777 0.693 0.611
DeepFill V2   | 0.865 0.801 0.714 0.625 | 0.894 0.842 0.772 0.693 | 0.859 0.796 0.714 0.630
EdgeConnect   | 0.879 0.821 0.740 0.651 | 0.905 0.856 0.784 0.689 | 0.862 0.799 0.717 0.633
LISK          | 0.881 0.823 0.744 0.642 | 0.928 0.886 0.822 0.724 | 0.882 0.823 0.744 0.655
LBAM          | 0.879 0.816 0.732 0.637 | 0.907 0.860 0.796 0.718 | 0.861 0.794 0.708 0.619
MEDFE         | 0.876 0.811 0.718 0.616 | 0.884 0.810 0.759 0.666 | 0.833 0.809 0.738 0.636
Lahiri et al. | 0.871 0.813 0.739 0.651 | 0.903 0.859 0.802 0.716 | 0.869 0.811 0.738 0.666
GM-SRM        | 0.902 0.852 0.780 0.696 | 0.925 0.886 0.832 0.760 | 0.883 0.827 0.756 0.677
""",
    "ncc": """
PConv         | 0.957 0.934 0.895 0.835 | 0.986 0.978 0.964 0.938 | 0.957 0.934 0.898 0.838
DeepFill V2   | 0.951 0.924 0.878 0.811 | 0.985 0.975 0.958 0.926 | 0.956 0.933 0.894 0.826
EdgeConnect   | 0.963 0.943 0.906 0.848 | 0.987 0.978 0.960 0.920 | 0.962 0.942 0.908 0.850
LISK          | 0.971 0.954 0.919 0.859 | 0.991 0.985 0.972 0.940 | 0.972 0.954 0.921 0.862
LBAM          | 0.962 0.941 0.904 0.845 | 0.987 0.980 0.966 0.940 | 0.962 0.941 0.906 0.848
MEDFE         | 0.961 0.937 0.889 0.814 | 0.976 0.967 0.950 0.917 | 0.956 0.939 0.906 0.813
Lahiri et al. | 0.964 0.947 0.916 0.854 | 0.988 0.981 0.969 0.937 | 0.968 0.952 0.925 0.876
GM-SRM        | 0.972 0.958 0.929 0.879 | 0.991 0.985 0.974 0.952 | 0.972 0.956 0.929 0.880
""",
    "lmse": """
PConv         | 0.016 0.025 0.037 0.051 | 0.007 0.011 0.017 0.026 | 0.018 0.027 0.038 0.053
DeepFill V2   | 0.019 0.030 0.046 0.064 | 0.008 0.013 0.020 0.031 | 0.019 0.029 0.043 0.062
EdgeConnect   | 0.013 0.020 0.044 0.064 | 0.006 0.010 0.017 0.031 | 0.015 0.023 0.034 0.048
LISK          | 0.010 0.016 0.027 0.040 | 0.004 0.007 0.013 0.024 | 0.011 0.019 0.030 0.046
LBAM          | 0.014 0.022 0.033 0.047 | 0.006 0.010 0.016 0.025 | 0.016 0.025 0.037 0.053
MEDFE         | 0.014 0.023 0.038 0.055 | 0.011 0.015 0.021 0.032 | 0.018 0.025 0.037 0.058
Lahiri et al. | 0.011 0.020 0.029 0.049 | 0.006 0.009 0.013 0.024 | 0.014 0.019 0.040 0.046
GM-SRM        | 0.009 0.015 0.023 0.034 | 0.004 0.006 0.011 0.018 | 0.011 0.017 0.025 0.037
""",
}

_TABLE_II = {
    "psnr": """
PConv         | 23.97 20.02 | 20.54 14.56 | 21.69 18.09
DeepFill V2   | 23.32 18.98 | 25.45 19.86 | 21.27 17.54
EdgeConnect   | 24.91 20.32 | 23.68 18.83 | 22.39 18.48
LISK          | 22.28 18.32 | 24.28 18.02 | 22.52 18.54
LBAM          | 24.18 20.14 | 25.91 20.73 | 21.79 18.38
MEDFE         | 23.43 19.09 | 25.54 20.26 | 21.18 17.57
Lahiri et al. | 24.79 19.92 | 25.51 20.50 | 22.35 18.36
GM-SRM        | 25.86 21.41 | 26.97 21.75 | 23.33 19.51
""",
    "ssim": """
PConv         | 0.828 0.638 | 0.797 0.596 | 0.816 0.633
DeepFill V2   | 0.832 0.633 | 0.876 0.694 | 0.823 0.638
EdgeConnect   | 0.846 0.659 | 0.860 0.672 | 0.827 0.647
LISK          | 0.828 0.639 | 0.873 0.675 | 0.842 0.662
LBAM          | 0.832 0.637 | 0.887 0.719 | 0.820 0.634
MEDFE         | 0.827 0.615 | 0.880 0.703 | 0.813 0.622
Lahiri et al. | 0.835 0.649 | 0.882 0.701 | 0.830 0.669
GM-SRM        | 0.862 0.695 | 0.901 0.757 | 0.845 0.683
""",
    "ncc": """
PConv         | 0.924 0.817 | 0.894 0.691 | 0.909 0.800
DeepFill V2   | 0.913 0.781 | 0.974 0.911 | 0.899 0.781
EdgeConnect   | 0.937 0.829 | 0.962 0.887 | 0.920 0.815
LISK          | 0.939 0.833 | 0.968 0.871 | 0.930 0.833
LBAM          | 0.928 0.820 | 0.976 0.926 | 0.917 0.820
MEDFE         | 0.919 0.782 | 0.974 0.918 | 0.902 0.781
Lahiri et al. | 0.929 0.830 | 0.969 0.926 | 0.919 0.830
GM-SRM        | 0.946 0.860 | 0.981 0.940 | 0.932 0.840
""",
    "lmse": """
PConv         | 0.024 0.051 | 0.023 0.044 | 0.027 0.054
DeepFill V2   | 0.029 0.069 | 0.012 0.034 | 0.034 0.068
EdgeConnect   | 0.019 0.046 | 0.017 0.038 | 0.024 0.051
LISK          | 0.017 0.044 | 0.015 0.032 | 0.020 0.047
LBAM          | 0.022 0.049 | 0.011 0.028 | 0.028 0.055
MEDFE         | 0.022 0.060 | 0.012 0.033 | 0.030 0.063
Lahiri et al. | 0.026 0.047 | 0.020 0.034 | 0.030 0.050
GM-SRM        | 0.015 0.035 | 0.008 0.022 | 0.017 0.038
""",
}

# CelebA-HQ256 only, centre hole of 50 %. The paper calls the first row "Base model".
_TABLE_IV = {
    "Base": (18.39, 0.694, 0.874, 0.032),
    "GM-BM": (20.43, 0.729, 0.921, 0.027),
    "GM-CSV": (21.06, 0.734, 0.930, 0.023),
    "GM-SRM": (21.75, 0.757, 0.940, 0.022),
}

VARIANTS = tuple(_TABLE_IV)
"""The rows of Table IV: the model without its memory, two parts of it, and the whole."""

Scores = dict[str, dict[str, dict[str, float]]]
"""Method to metric to bin to value."""


def _scores(blocks: dict[str, str], bins: tuple[str, ...]) -> dict[str, Scores]:
    """The tables of all data sets from the printed blocks of their metrics."""
    tables: dict[str, Scores] = {name: {} for name in DATA_SETS.values()}
    for metric, block in blocks.items():
        for line in block.strip().splitlines():
            method, *parts = line.split("|")
            for table, part in zip(tables.values(), parts, strict=True):
                values = dict(zip(bins, map(float, part.split()), strict=True))
                table.setdefault(method.strip(), {})[metric] = values
    return tables


def _published() -> dict[str, dict[str, Scores]]:
    table_1, table_2 = _scores(_TABLE_I, IRREGULAR_BINS), _scores(_TABLE_II, CENTRE_BINS)
    tables = {name: {"I": table_1[name], "II": table_2[name]} for name in DATA_SETS.values()}
    tables[DATA_SETS["celebahq"]]["IV"] = {
        variant: {metric: {ABLATION_BIN: value} for metric, value in zip(METRICS, row, strict=True)}
        for variant, row in _TABLE_IV.items()
    }
    return tables


PUBLISHED: dict[str, dict[str, Scores]] = _published()
"""Data set to table ("I", "II", "IV") to method to metric to bin to value."""


class Contradiction(NamedTuple):
    """Printed cells that do not fit the others, and why."""

    data_set: str
    table: str
    method: str
    metric: str
    bins: tuple[str, ...]
    reason: str


_TOO_LOW = (
    "the PSNR is too low for the NCC and LMSE of the same pictures; those two do not see a "
    "shift of brightness, so either the value is wrong or the pictures were shifted"
)
_OFF_LMSE = "the LMSE is too high for the PSNR of the same pictures"

CONTRADICTIONS = (
    Contradiction("Paris StreetView", "I", "LISK", "psnr", IRREGULAR_BINS, _TOO_LOW),
    Contradiction("Paris StreetView", "II", "LISK", "psnr", CENTRE_BINS, _TOO_LOW),
    Contradiction("CelebA-HQ256", "II", "PConv", "psnr", CENTRE_BINS, _TOO_LOW),
    Contradiction("CelebA-HQ256", "II", "LISK", "psnr", CENTRE_BINS[1:], _TOO_LOW),
    Contradiction("Paris StreetView", "I", "EdgeConnect", "lmse", IRREGULAR_BINS[2:], _OFF_LMSE),
    Contradiction("CelebA-HQ256", "II", "Lahiri et al.", "lmse", CENTRE_BINS[:1], _OFF_LMSE),
    Contradiction("Paris StreetView", "II", "Lahiri et al.", "lmse", CENTRE_BINS[:1], _OFF_LMSE),
)
"""The cells whose implied mean squared intensity does not fit.

10^(-PSNR/10) / LMSE estimates the mean square of the target pictures, the same for all methods of
a column. These cells are more than 35 % above or 25 % below their column's median; all other cells
are within that range.
"""


def contradiction(
    data_set: str, table: str, method: str, metric: str, bin_name: str
) -> Contradiction | None:
    """The note on one printed cell; None for a cell that fits the others."""
    for note in CONTRADICTIONS:
        if note[:4] == (data_set, table, method, metric) and bin_name in note.bins:
            return note
    return None
