"""The user study's tally: Wilson intervals, the paper's Table III, ties."""

import csv
import io
import json
import math
import re

import numpy as np
import pytest
from studies import ANNA, BEN, CARA, METHODS, SAMPLES, assert_adds_up, vote

from gmsrm_jax.study.tally import format_tally, tally, tally_study, write_tally
from gmsrm_jax.study.votes import Vote

Z2 = 1.959963984540054**2


def wilson(successes, trials):
    """Ends e of the 95 % score interval: (p - e)² = z² e (1 - e) / n, a polynomial of e."""
    p, z2n = successes / trials, Z2 / trials
    return pytest.approx(sorted(np.roots([1 + z2n, -2 * p - z2n, p**2])), abs=1e-12)


def interval(row):
    return [row["share_low"], row["share_high"]]


# Newcombe (1998), Statistics in Medicine 17, Table I, method 3.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_the_published_ones_of_wilson(successes, trials, low, high):
    firsts = ["a"] * successes + ["b"] * (trials - successes)
    cast = [Vote(ANNA, "x", (first, "ab".replace(first, "")), ("a", "b")) for first in firsts]
    row = tally(("a", "b"), ["x"], cast, 0).methods.loc["a"]
    assert interval(row) == pytest.approx((low, high), abs=5e-5)


def test_tally_of_seven_votes_counted_by_hand():
    a, b, c = METHODS
    other = (c, a, b)
    cast = [
        vote(ANNA, "door", a, b, c),
        vote(BEN, "door", a, c, b),
        vote(CARA, "door", b, a, c, shown=other),  # door: a 2, b 1 -> a
        vote(ANNA, "gate", b, a, c, shown=other),
        vote(BEN, "gate", a, b, c, shown=other),  # gate: a 1, b 1 -> tied
        vote(ANNA, "wall", b, c, a),
        vote(BEN, "wall", b, a, c),  # wall: b 2 -> b
    ]
    result = tally(METHODS, SAMPLES, cast, replaced_votes=3)
    assert (result.votes, result.participants, result.replaced_votes) == (7, 3, 3)
    assert (result.voted_samples, result.tied_samples) == (3, 1)
    rows = result.methods
    assert [*rows.index] == [*METHODS]
    assert [*rows["first_places"]] == [3, 4, 0]
    assert [*rows["share"]] == [3 / 7, 4 / 7, 0]
    assert [*rows["winning_samples"]] == [1, 1, 0]
    ranks = [(1 + 1 + 2 + 2 + 1 + 3 + 2) / 7, (2 + 3 + 1 + 1 + 2 + 1 + 1) / 7]
    ranks.append((3 + 2 + 3 + 3 + 3 + 2 + 3) / 7)
    assert [*rows["mean_rank"]] == pytest.approx(ranks)
    assert sum(ranks) == pytest.approx(1 + 2 + 3)
    assert interval(rows.loc[a]) == wilson(3, 7)
    # On the screen: A is a or c, B is b or a, C is c or b.
    assert result.positions["first_places"].to_dict() == {"A": 2, "B": 3, "C": 2}
    winners = [result.samples[name]["winner"] for name in SAMPLES]
    assert winners == [a, None, None, b]
    assert result.samples["door"]["first_places"] == {a: 2, b: 1, c: 0}
    assert result.samples["sub/roof"]["votes"] == 0
    # Two-sided, at p = 1/3: all outcomes of seven votes that are no likelier than four.
    odds = [math.comb(7, k) * 2 ** (7 - k) / 3**7 for k in range(8)]
    expected = sum(odd for odd in odds if odd <= odds[4] * (1 + 1e-9))
    assert rows.loc[b, "p_value"] == pytest.approx(expected, abs=1e-12)
    assert_adds_up(result)


def test_a_method_may_be_called_as_a_further_row_is():
    names = ("Total", "(tied)")
    cast = [Vote(ANNA, "a", names, names), Vote(BEN, "b", names[::-1], names)]
    cast += [Vote(CARA, name, names, names) for name in ("a", "b")]  # a is won, b is tied
    lines = format_tally(tally(names, ["a", "b"], cast, 0)).splitlines()
    rows = [line.split() for line in lines if line.startswith(names)]
    assert [(row[0], row[1]) for row in rows] == [
        ("Total", "3"),
        ("(tied)", "1"),
        ("(tied)", "1"),  # samples
        ("Total", "4"),
    ]


def test_table_iii_of_the_paper_comes_out_of_votes_like_its_own(tmp_path):
    # CelebA-HQ: 50 people rank 50 samples; 99, 396, 7, 475 and 1523 of 2500 first places.
    names = ("DeepFill V2", "LISK", "Lahiri et al.", "MEDFE", "GM-SRM")
    won = [["MEDFE"] * 50] * 6 + [["LISK"] * 50] * 4 + [["DeepFill V2"] * 48 + ["GM-SRM"] * 2]
    rest = ["MEDFE"] * 175 + ["LISK"] * 196 + ["DeepFill V2"] * 51 + ["Lahiri et al."] * 7
    won += [["GM-SRM"] * 39 + rest[11 * k : 11 * (k + 1)] for k in range(39)]
    samples = [f"{k:02d}" for k in range(50)]
    cast = [
        Vote(f"{person:032x}", name, (best, *(n for n in names if n != best)), names)
        for name, firsts in zip(samples, won, strict=True)
        for person, best in enumerate(firsts)
    ]
    result = tally(names, samples, cast, 0)
    assert_adds_up(result)
    text = format_tally(result)
    assert "2500 votes of 50 participants on 50 of 50 samples" in text
    table = {"DeepFill V2": ("3.96", 1), "LISK": ("15.84", 4), "Lahiri et al.": ("0.28", 0)}
    table |= {"MEDFE": ("19.00", 6), "GM-SRM": ("60.92", 39)}
    for name, (share, wins) in table.items():
        line = next(line for line in text.splitlines() if line.startswith(name))
        assert re.search(rf" {share} % .*% +[0-9.e-]+ +{wins} ", line), line
    assert re.search(r"^Total +2500 +100\.00 % +50$", text, re.MULTILINE)
    paths = write_tally(tmp_path, result)
    assert [path.name for path in paths] == ["tally.json", "tally.md", "tally.csv"]
    written = json.loads(paths[0].read_text())
    assert written["methods"]["GM-SRM"]["first_places"] == 1523
    assert interval(written["methods"]["GM-SRM"]) == wilson(1523, 2500)
    assert written["samples"]["00"]["winner"] == "MEDFE"
    assert re.search(r"^\| LISK \| 396 \| 15\.84 % \|.*\| 4 \|", paths[1].read_text(), re.MULTILINE)
    rows = list(csv.DictReader(io.StringIO(paths[2].read_text())))
    assert [row["method"] for row in rows] == list(names)
    assert sum(int(row["first_places"]) for row in rows) == int(rows[0]["votes"]) == 2500
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1.0)
    assert [float(rows[4][end]) for end in ("share_low", "share_high")] == wilson(1523, 2500)


def test_tally_without_votes_has_no_shares(votes, tmp_path):
    result = tally_study(votes)
    assert (result.votes, result.voted_samples, result.tied_samples) == (0, 0, 0)
    assert result.methods[["share", "share_low", "p_value", "mean_rank"]].isna().all(axis=None)
    assert re.search(r"^GM-SRM +0 +- +- +- +0 +-$", format_tally(result), re.MULTILINE)
    write_tally(tmp_path, result)
    row = next(csv.DictReader((tmp_path / "tally.csv").open()))
    assert row["share"] == row["share_low"] == row["mean_rank"] == ""


def test_second_sight_measures_consistency_and_decides_nothing(tmp_path):
    a, b, c = METHODS
    cast = [
        vote(ANNA, "door", a, b, c),
        vote(ANNA, "gate", b, a, c),
        vote(ANNA, "door", a, c, b, again=True),
        vote(ANNA, "gate", a, b, c, again=True),
        vote(BEN, "door", c, a, b),
        vote(BEN, "door", c, b, a, shown=(c, b, a), again=True),
        vote(CARA, "wall", b, a, c, again=True),  # whose first vote is missing
    ]
    result = tally(METHODS, SAMPLES, cast, 0)
    assert (result.votes, result.participants) == (3, 3)
    assert (result.repeated, result.consistent) == (3, 2)
    assert [*result.methods["first_places"]] == [1, 1, 1]
    low, high = (100 * end for end in np.roots([1 + Z2 / 3, -4 / 3 - Z2 / 3, 4 / 9])[::-1])
    said = f"the same was first in 2 of 3 (95 % interval {low:.2f}-{high:.2f} %)"
    assert said in format_tally(result)
    write_tally(tmp_path, result)
    assert json.loads((tmp_path / "tally.json").read_text())["consistent"] == 2


def test_names_do_not_break_the_markdown_table(tmp_path):
    result = tally(("a|b", "c"), ["x"], [Vote(ANNA, "x", ("c", "a|b"), ("a|b", "c"))], 0)
    write_tally(tmp_path, result)
    assert "| a\\|b | 0 | 0.00 % |" in (tmp_path / "tally.md").read_text()
