"""The paper's numbers: every cell is there, and they agree with each other and with its text."""

import itertools
import pathlib
import statistics

import pytest

from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.evaluation.published import (
    ABLATION_BIN,
    CENTRE_BINS,
    DATA_SETS,
    FIGURE_7_METHODS,
    IRREGULAR_BINS,
    METRICS,
    PUBLISHED,
    TABLE_BINS,
    TYPES,
    VARIANTS,
)
from gmsrm_jax.evaluation.tables import PAPER_DIGITS

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
PARIS, CELEBA, PLACES = DATA_SETS.values()
# Data set to table to method to metric to bin to value.
NESTED = {}
for (data_set, table, method, metric, name), value in PUBLISHED.items():
    methods = NESTED.setdefault(data_set, {}).setdefault(table, {})
    methods.setdefault(method, {}).setdefault(metric, {})[name] = value


def cells(table=None):
    """(data set, table, method, metric, bin, value) of every cell."""
    return [(*cell, value) for cell, value in PUBLISHED.items() if table in (None, cell[1])]


def test_every_cell_is_there():
    assert len(cells("I")) == 3 * 8 * 4 * 4
    assert len(cells("II")) == 3 * 8 * 4 * 2
    assert len(cells("IV")) == 4 * 4
    for tables in NESTED.values():
        for table in ("I", "II"):
            assert list(tables[table]) == list(TYPES)
            for metrics in tables[table].values():
                assert tuple(metrics) == METRICS
                assert all(tuple(values) == TABLE_BINS[table] for values in metrics.values())
    assert set(IRREGULAR_BINS + CENTRE_BINS) <= set(BIN_NAMES)
    assert IRREGULAR_BINS == ("20-30%", "30-40%", "40-50%", "50-60%")
    assert CENTRE_BINS == ("centre 25%", "centre 50%")


@pytest.mark.parametrize(
    ("data_set", "table", "method", "metric", "bin_name", "value"),
    [
        (PARIS, "I", "PConv", "psnr", "20-30%", 26.85),
        (PARIS, "I", "GM-SRM", "lmse", "50-60%", 0.034),
        (PARIS, "I", "EdgeConnect", "lmse", "50-60%", 0.064),
        (CELEBA, "I", "LISK", "ssim", "20-30%", 0.928),
        (CELEBA, "I", "GM-SRM", "psnr", "30-40%", 27.91),
        (CELEBA, "I", "Lahiri et al.", "ncc", "40-50%", 0.969),
        (PLACES, "I", "MEDFE", "psnr", "50-60%", 18.27),
        (PLACES, "I", "LBAM", "ssim", "40-50%", 0.708),
        (PLACES, "I", "GM-SRM", "ncc", "50-60%", 0.880),
        (PARIS, "II", "DeepFill V2", "lmse", "centre 50%", 0.069),
        (PARIS, "II", "GM-SRM", "psnr", "centre 25%", 25.86),
        (CELEBA, "II", "PConv", "psnr", "centre 50%", 14.56),
        (CELEBA, "II", "LBAM", "ncc", "centre 25%", 0.976),
        (PLACES, "II", "GM-SRM", "ssim", "centre 50%", 0.683),
        (CELEBA, "IV", "Base", "psnr", "centre 50%", 18.39),
        (CELEBA, "IV", "GM-CSV", "ssim", "centre 50%", 0.734),
    ],
)
def test_cells_as_printed(data_set, table, method, metric, bin_name, value):
    assert PUBLISHED[data_set, table, method, metric, bin_name] == value


def test_values_have_the_digits_of_the_print():
    for *_, metric, _, value in cells():
        assert round(value, PAPER_DIGITS[metric]) == value


def test_larger_holes_score_worse():
    """A slip of the pen would most likely break the order of a row."""
    for tables in NESTED.values():
        for table in ("I", "II"):
            for metrics in tables[table].values():
                for metric, values in metrics.items():
                    row = list(values.values())
                    order = sorted(row, reverse=metric != "lmse")
                    assert row == order
                    assert len(set(row)) == len(row)


def test_gm_srm_is_best_as_the_paper_says_but_for_one_cell():
    beaten = []
    for table in ("I", "II"):
        for data_set, _, method, metric, bin_name, value in cells(table):
            if method == "GM-SRM":
                column = [m[metric][bin_name] for m in NESTED[data_set][table].values()]
                best = min(column) if metric == "lmse" else max(column)
                if value != best:
                    beaten.append((data_set, table, metric, bin_name))
    assert beaten == [(CELEBA, "I", "ssim", "20-30%")]


def test_claims_of_the_text():
    def margin(data_set, bin_name):
        scores = {m: s["psnr"][bin_name] for m, s in NESTED[data_set]["I"].items()}
        return scores.pop("GM-SRM") - max(scores.values())

    assert all(margin(PARIS, bin_name) > 1.3 for bin_name in IRREGULAR_BINS)
    assert margin(CELEBA, "50-60%") > 1.0


def test_table_4_agrees_with_table_2_and_climbs():
    variants = NESTED[CELEBA]["IV"]
    for metric in METRICS:
        at_50 = NESTED[CELEBA]["II"]["GM-SRM"][metric][ABLATION_BIN]
        assert variants["GM-SRM"][metric] == {ABLATION_BIN: at_50}
    psnr = [scores["psnr"][ABLATION_BIN] for scores in variants.values()]
    steps = [round(b - a, 2) for a, b in itertools.pairwise(psnr)]
    assert tuple(variants) == VARIANTS == ("Base", "GM-BM", "GM-CSV", "GM-SRM")
    assert steps == [2.04, 0.63, 0.69]


def test_contradictions_are_the_cells_that_do_not_fit():
    """PSNR and LMSE of the same pictures imply their mean square, which methods share."""
    found = set()
    for table in ("I", "II"):
        for data_set in NESTED:
            methods = NESTED[data_set][table]
            for bin_name in TABLE_BINS[table]:
                implied = {
                    method: 10.0 ** (-scores["psnr"][bin_name] / 10.0) / scores["lmse"][bin_name]
                    for method, scores in methods.items()
                }
                middle = statistics.median(implied.values())
                for method, value in implied.items():
                    if value > 1.35 * middle:
                        found.add((data_set, table, method, "psnr", bin_name))
                    elif value < 0.75 * middle:
                        found.add((data_set, table, method, "lmse", bin_name))
    lisk = {(PARIS, "I", "LISK", "psnr", name) for name in IRREGULAR_BINS}
    assert lisk < found  # which notes below the tables name
    assert len(found) == 4 + 2 + 2 + 1 + 2 + 1 + 1


def test_names_fit_the_configs():
    assert list(NESTED) == list(DATA_SETS.values())
    for name, data_set in DATA_SETS.items():
        text = (CONFIGS / f"{name}.py").read_text(encoding="utf-8")
        assert f'config.name = "{name}"' in text
        assert f'config.evaluation.dataset = "{data_set}"' in text
    assert set(FIGURE_7_METHODS) <= set(TYPES)


def test_the_configs_aims_are_the_papers():
    """The docstrings of the configs name GM-SRM's PSNR."""
    for name, data_set in DATA_SETS.items():
        text = (CONFIGS / f"{name}.py").read_text(encoding="utf-8")
        psnr = NESTED[data_set]["I"]["GM-SRM"]["psnr"]
        assert " / ".join(f"{value:.2f}" for value in psnr.values()) in text
        assert f"{NESTED[data_set]['II']['GM-SRM']['psnr']['centre 50%']:.2f} dB at 50 %" in text
