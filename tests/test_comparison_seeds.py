"""Tables over several seeds, by numbers worked out by hand; the options of `gmsrm compare`."""

import json
import math
import pathlib
import statistics

import pytest
from made_up_scores import PAPER_METRICS, entry, make_metrics
from table_readers import FORMATS, shown_rows, texts

from gmsrm_jax.cli import main
from gmsrm_jax.commands import comparison
from gmsrm_jax.commands.compare import read_rows
from gmsrm_jax.commands.scoring import NotScored
from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.evaluation.comparison_table import (
    comparison_table,
    joined_metrics,
    spread_table,
)
from gmsrm_jax.evaluation.cost import Cost
from gmsrm_jax.evaluation.paper_tables import ablation_table, irregular_table
from gmsrm_jax.evaluation.table_formats import to_markdown, to_text
from gmsrm_jax.metrics import Definition
from gmsrm_jax.runtime.errors import UserError

ROWS = ("Base", "GM-BM", "GM-CSV", "GM-SRM")
COMMAND = "gmsrm compare --config c_d.py --config.a='(\"b\",)' --seeds 0,3"
COSTS = {
    name: Cost(1_234_567 + place, 89_000 * place, 0.5 + place, 0.01 * (place + 1), "cpu", 30_000, 9)
    for place, name in enumerate(ROWS)
}


def evaluation(scores, rows=ROWS):
    """One metrics.json of all rows; `scores` holds PSNR and LMSE by the row's name."""
    metrics = make_metrics([*rows, "mean colour"])
    for row in rows:
        cells = metrics["methods"][row]["composite"]["centre 50%"]
        for name, value in zip(PAPER_METRICS, (20.0, 0.5, 0.5, 0.25), strict=True):
            cells[name] = entry(scores.get(row, {}).get(name, value))
    return metrics


@pytest.fixture
def pair():
    return {
        0: evaluation({"Base": {"psnr": 20.0}, "GM-SRM": {"psnr": 24.0, "lmse": 0.0102}}),
        3: evaluation({"Base": {"psnr": 23.0}, "GM-SRM": {"psnr": 24.5, "lmse": 0.0106}}),
    }


def spread(runs, data_set="facades", table=ablation_table):
    some = next(iter(runs.values()))
    definitions = {name: Definition(**item) for name, item in some["definitions"].items()}
    tables = {seed: table(data_set, run) for seed, run in runs.items()}
    return spread_table(tables, definitions, COMMAND)


@pytest.mark.parametrize("kind", FORMATS)
def test_mean_and_deviation_of_two_seeds(pair, kind):
    table, _ = spread(pair)
    rows = [
        [(text.replace(r"$\pm$", "±"), bold) for text, bold in row]
        for row in shown_rows(table, kind)
    ]
    assert [row[0][0] for row in rows] == list(ROWS)
    # Two numbers lie half their difference from their mean, and deviate by it over sqrt(2).
    assert rows[0][1] == ("21.50 ± 2.12", False)
    assert rows[1][1] == ("20.00 ± 0.00", False)
    assert rows[3][1] == ("24.25 ± 0.35", True)
    assert rows[3][4] == ("0.0104 ± 0.0003", True)


def test_three_seeds_and_the_paper_beside_them():
    runs = {
        seed: evaluation({"GM-BM": {"psnr": value, "ssim": value / 100.0}})
        for seed, value in ((7, 21.0), (1, 22.0), (4, 26.0))
    }
    table, numbers = spread(runs, "CelebA-HQ256")
    # Mean 23; squares of -2, -1 and 3 are 14 in all, half of it 7.
    assert texts(table)["GM-BM"][:2] == ["23.00 ± 2.65", "0.2300 ± 0.0265"]
    (column,) = [c for c in numbers["GM-BM"] if "PSNR" in c]
    psnr = numbers["GM-BM"][column]["psnr"]
    assert psnr["values"] == {"7": 21.0, "1": 22.0, "4": 26.0}
    assert psnr["mean"] == pytest.approx(statistics.mean([21, 22, 26]))
    assert psnr["deviation"] == pytest.approx(statistics.stdev([21, 22, 26]))
    assert texts(table)["Base (paper)"] == ["18.39", "0.694", "0.874", "0.032"]
    assert "over 3 trainings of each row, with the seeds 7, 1 and 4." in table.caption
    assert not any("Two seeds" in note for note in table.notes)


def test_a_table_of_groups_has_a_spread_in_every_cell(pair):
    for seed, run in pair.items():
        run["methods"]["Base"]["composite"]["20-30%"]["psnr"] = entry(30.0 + seed)
    table, numbers = spread(pair, "Paris StreetView", irregular_table)
    frame = table.scores
    ours = frame[(frame["method"] == "Base") & (frame["measure"] == "psnr")]
    assert next(iter(ours["text"])) == "31.50 ± 2.12"
    assert numbers["Base"]["20-30%"]["psnr"]["values"] == {"0": 30.0, "3": 33.0}
    theirs = frame[(frame["method"] == "PConv (paper)") & (frame["measure"] == "psnr")]
    assert list(theirs["text"]) == ["26.85", "24.66", "22.67", "20.52"]
    assert not theirs["best"].any()


def test_the_command_and_a_doubt_stand_with_the_table(pair):
    table, _ = spread(pair)
    assert f"```bash\n{COMMAND}\n```\n" in to_markdown(table)
    assert sum("Two seeds only" in note for note in table.notes) == 1
    assert "24.25 ± 0.35*" in to_text(table)


def test_an_undefined_score_has_no_mean(pair):
    pair[3]["methods"]["GM-CSV"]["composite"]["centre 50%"]["ncc"] = entry(None, 0, 7)
    table, numbers = spread(pair)
    assert texts(table)["GM-CSV"][2] == "-"
    (column,) = [c for c in numbers["GM-CSV"] if "NCC" in c]
    assert numbers["GM-CSV"][column]["ncc"] == {
        "mean": None,
        "deviation": None,
        "values": {"0": 0.5, "3": None},
    }
    assert "Seed 3: Undefined and left out of the means: NCC of GM-CSV: 7 of 7." in table.notes


def test_a_note_of_some_seeds_names_all_of_them(pair):
    pair[8] = evaluation({})
    for seed in (3, 8):
        pair[seed]["methods"]["GM-CSV"]["composite"]["centre 50%"]["ncc"] = entry(None, 0, 7)
    table, _ = spread(pair)
    note = "Undefined and left out of the means: NCC of GM-CSV: 7 of 7."
    assert [each for each in table.notes if note in each] == [f"Seeds 3 and 8: {note}"]


def test_without_centre_holes_the_largest_are_compared():
    metrics = make_metrics(["GM-SRM", "mean colour"], bins=BIN_NAMES[:4])
    table = comparison_table("facades", metrics, {}, "")
    assert table.caption.startswith("What each row costs, and its scores for holes of 30-40% of")
    psnr = metrics["methods"]["GM-SRM"]["composite"]["30-40%"]["psnr"]["mean"]
    assert texts(table)["GM-SRM"][5] == f"{psnr:.2f}"


def test_costs_stand_before_the_scores(pair):
    table = comparison_table(
        "facades", pair[0], COSTS, "the stage memory of 9 pictures of x", ("n",)
    )
    heads = [column for _, column in table.grid().columns]
    assert heads[:5] == [
        "Training pictures",
        "Trained parameters",
        "Frozen parameters",
        "GFLOP",
        "Seconds",
    ]
    assert heads[5:9] == ["PSNR [dB] ↑", "SSIM ↑", "NCC ↑", "LMSE ↓"]
    assert texts(table)["GM-SRM"][:6] == [
        "30,000",
        "1,234,570",
        "267,000",
        "3.5",
        "0.0400",
        "24.00",
    ]
    assert texts(table)["mean colour"][:5] == ["-"] * 5
    assert any("beside the stage memory of 9 pictures of x" in note for note in table.notes)
    assert table.notes[-1] == "n"
    definitions = {k: Definition(**item) for k, item in pair[0]["definitions"].items()}
    slower = {
        name: Cost(**{**vars(cost), "seconds": cost.seconds + 0.02}) for name, cost in COSTS.items()
    }
    other = comparison_table("facades", pair[3], slower, "", ())
    both, numbers = spread_table({0: table, 3: other}, definitions, COMMAND)
    assert texts(both)["Base"][:6] == [
        "30,000", "1,234,567", "0", "0.5", f"0.0200 ± {0.02 / math.sqrt(2):.4f}", "21.50 ± 2.12",
    ]  # fmt: skip
    assert numbers["Base"]["Seconds"]["seconds"]["mean"] == pytest.approx(0.02)


def test_evaluations_are_joined_row_by_row():
    runs = {
        name: make_metrics([name, f"{name}, mean noise", "untrained network", "mean colour"])
        for name in ("PConv", "GM-SRM")
    }
    joined = joined_metrics(runs)
    assert list(joined["methods"]) == [
        "PConv",
        "PConv, mean noise",
        "GM-SRM",
        "GM-SRM, mean noise",
        "mean colour",
    ]
    assert joined["methods"]["GM-SRM"] == runs["GM-SRM"]["methods"]["GM-SRM"]
    runs["GM-SRM"]["mask_list"]["sha256"] = "ab" * 32
    with pytest.raises(UserError, match=r"GM-SRM was scored with the mask list (ab){6}, and PConv"):
        joined_metrics(runs)


def test_seeds_are_done_one_after_the_other(monkeypatch, tmp_path):
    """With scores made up in place of trainings."""
    calls = []

    def compared(rows, workdir):
        (seed,) = {row.config.seed for row in rows}
        metrics = evaluation({"Base": {"psnr": 20.0 + seed}}, ("Base", "GM-SRM"))
        costs = {row.title: COSTS[row.title] for row in rows}
        table = comparison_table("facades", metrics, costs, "")
        return comparison.Compared(metrics, (table, ablation_table("facades", metrics)), {}, costs)

    def compare(rows, workdir, command):
        calls.append((rows[0].config.seed, rows[0].config.evaluation.seed, workdir, command))
        if rows[0].config.seed == 5:
            raise NotScored("lpips was not scored")
        return compared(rows, workdir)

    monkeypatch.setattr(comparison, "compare", compare)
    monkeypatch.setattr(
        comparison, "_write", lambda rows, workdir, command: compared(rows, workdir)
    )
    rows = read_rows(PARIS, "base,gm_srm", ["seed=9", "evaluation.seed=4"], None)
    with pytest.raises(NotScored):  # which does not keep the next seed from being done
        comparison.compare_seeds(rows, tmp_path, (5, 2), COMMAND)
    assert calls == [
        (5, 4, tmp_path / "seed_5", COMMAND),
        (2, 4, tmp_path / "seed_2", COMMAND),
    ]
    assert {row.config.seed for row in rows} == {9}
    facts = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert facts["seeds"] == [5, 2]
    assert facts["rows"] == {"base": "Base", "gm_srm": "GM-SRM"}
    (psnr,) = [s["psnr"] for s in facts["tables"]["table_4"]["Base"].values() if "psnr" in s]
    assert psnr["mean"] == 23.5
    assert facts["costs"]["5"]["GM-SRM"]["frozen"] == 267_000
    for name in ("table_4", "table_comparison"):
        text = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
        assert "23.50 ± 2.12" in text, name


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [
        ("0,0", "0 is there twice"),
        ("1,01", "1 is there twice"),
        ("0,x", "'x' is no whole number"),
        ("", "'' is no whole number"),
        ("0,-1", "'-1' is no whole number"),
        ("0,4294967296", "'4294967296' is no whole number from 0 to 4294967295"),
        ("3", "one seed has no spread"),
    ],
)
def test_bad_seeds_are_refused_before_anything_is_read(seeds, reason, capsys, tmp_path):
    absent = str(tmp_path / "absent.py")
    words = ["compare", "--config", absent, "--workdir", str(tmp_path), "--seeds", seeds]
    assert main(words) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("gmsrm: error: --seeds ")
    assert reason in error
    assert not any(tmp_path.iterdir())


PARIS = f"{pathlib.Path(__file__).parent.parent / 'configs' / 'paris.py'}:runlocal"


def test_rows_are_methods_and_variants_of_one_length():
    changes = ["pconv.width=8", "batch_size=4", "inpainting.epochs=2.0"]
    rows = read_rows(PARIS, "pconv,edgeconnect,lahiri,base,gm_srm", changes, 0.3)
    assert [row.title for row in rows] == [
        "PConv",
        "EdgeConnect",
        "Lahiri et al.",
        "Base",
        "GM-SRM",
    ]
    pconv, edges, lahiri, base, whole = (row.config for row in rows)
    assert (pconv.pconv.width, pconv.image_size, pconv.pconv.length_kimg) == (8, 32, 0.3)
    fields = edges.edgeconnect
    assert [fields.edges_kimg, fields.inpainting_kimg, fields.joint_kimg] == pytest.approx(
        [0.1] * 3
    )
    assert lahiri.lahiri.length_kimg == base.inpainting.length_kimg == 0.3
    assert (base.variant, whole.variant) == ("base", "gm_srm")
    assert {row.config.batch_size for row in rows} == {4}
    proportions = read_rows(PARIS.removesuffix(":runlocal"), "edgeconnect", [], 50.0)[
        0
    ].config.edgeconnect
    assert (proportions.edges_kimg, proportions.joint_kimg) == pytest.approx((20.0, 10.0))


def test_rows_are_the_variants_unless_they_are_named():
    rows = read_rows(f"{PARIS},gm_csv", None, [], None)
    assert [row.name for row in rows] == ["base", "gm_bm", "gm_csv", "gm_srm"]
    assert all(row.config.inpainting.length_kimg == 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "changes", "kimg", "reason"),
    [
        ("pconv,gm_srm", [], None, "one length for all, such as --kimg 30"),
        ("pconv,pconv", [], 1.0, "a row is there twice"),
        ("pconv,telea", [], 1.0, "'telea' is no row; use any of: base"),
        ("pconv,gm_srm", ["pconv.wide=3"], 1.0, "no field of this name"),
        ("pconv,gm_srm", [], 0.0, "--kimg 0"),
        ("pconv,gm_srm", [], float("nan"), "--kimg nan"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(words, changes, kimg, reason):
    with pytest.raises(UserError, match=reason):
        read_rows(PARIS, words, changes, kimg)


def test_a_method_without_variants_needs_rows():
    with pytest.raises(UserError, match="pconv has no variants to compare; name --rows"):
        read_rows(f"{PARIS},pconv", None, [], None)
