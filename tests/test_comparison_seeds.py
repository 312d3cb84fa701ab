"""`gmsrm compare --seeds`: Table IV with mean and spread, by numbers worked out by hand."""

import json
import statistics

import jax
import pytest
from made_up_scores import PAPER_METRICS, entry, make_metrics
from small_stages import context, small_config
from table_readers import FORMATS, read_markdown, shown_rows, texts

from gmsrm_jax.cli import main
from gmsrm_jax.commands import comparison
from gmsrm_jax.commands.scoring import NotScored
from gmsrm_jax.evaluation.paper_tables import Parameters, ablation_table
from gmsrm_jax.evaluation.seed_table import seeds_table
from gmsrm_jax.evaluation.table_formats import to_markdown, to_text
from gmsrm_jax.methods import METHODS
from gmsrm_jax.report.paper_report import write_seeds
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.training.handover import shapes_given
from gmsrm_jax.training.loop import abstract_state

VARIANTS = METHODS["gm_srm"].variants
ROWS = ("Base", "GM-BM", "GM-CSV", "GM-SRM")
PARAMETERS = {
    name: Parameters(1_234_567 + place, 89_000 * place) for place, name in enumerate(ROWS)
}
COMMAND = "gmsrm compare --config c_d.py --set 'a=(\"b\",)' --seeds 0,3"
TRAINING = "5 steps of 8 pictures in stage 2"


def evaluations(scores, rows=ROWS):
    """A metrics.json for each variant; `scores` holds PSNR and LMSE by the variant's name."""
    found = []
    for row in rows:
        metrics = make_metrics([row, "mean colour"])
        cells = metrics["methods"][row]["composite"]["centre 50%"]
        for name, value in zip(PAPER_METRICS, (20.0, 0.5, 0.5, 0.25), strict=True):
            cells[name] = entry(value)
        for name, value in scores.get(row, {}).items():
            cells[name] = entry(value)
        found.append(metrics)
    return found


@pytest.fixture
def pair():
    return {
        0: evaluations({"Base": {"psnr": 20.0}, "GM-SRM": {"psnr": 24.0, "lmse": 0.0102}}),
        3: evaluations({"Base": {"psnr": 23.0}, "GM-SRM": {"psnr": 24.5, "lmse": 0.0106}}),
    }


def table_of(runs, data_set="facades"):
    return seeds_table(data_set, runs, PARAMETERS, TRAINING, COMMAND)


@pytest.mark.parametrize("kind", FORMATS)
def test_mean_and_deviation_of_two_seeds(pair, kind):
    table, _ = table_of(pair)
    if kind == "markdown":
        header, _ = read_markdown(to_markdown(table))
        assert header[1:3] == ["Trained parameters", "Frozen parameters"]
        assert header[3:] == ["PSNR [dB] ↑", "SSIM ↑", "NCC ↑", "LMSE ↓"]
    rows = [
        [(text.replace(r"$\pm$", "±"), bold) for text, bold in row]
        for row in shown_rows(table, kind)
    ]
    assert [row[0][0] for row in rows] == list(ROWS)
    # Two numbers lie half their difference from their mean, and deviate by it over sqrt(2).
    assert rows[0][3] == ("21.50 ± 2.12", False)
    assert rows[1][3] == ("20.00 ± 0.00", False)
    assert rows[3][3] == ("24.25 ± 0.35", True)
    assert rows[3][6] == ("0.0104 ± 0.0003", True)
    assert [text for text, _ in rows[0][1:3]] == ["1,234,567", "0"]
    assert [text for text, _ in rows[3][1:3]] == ["1,234,570", "267,000"]


def test_three_seeds_and_the_paper_beside_them():
    runs = {
        seed: evaluations({"GM-BM": {"psnr": value, "ssim": value / 100.0}})
        for seed, value in ((7, 21.0), (1, 22.0), (4, 26.0))
    }
    table, facts = table_of(runs, "CelebA-HQ256")
    # Mean 23; squares of -2, -1 and 3 are 14 in all, half of it 7.
    assert texts(table)["GM-BM"][2:4] == ["23.00 ± 2.65", "0.2300 ± 0.0265"]
    psnr = facts["variants"]["GM-BM"]["scores"]["psnr"]
    assert psnr["values"] == {"7": 21.0, "1": 22.0, "4": 26.0}
    assert psnr["mean"] == pytest.approx(statistics.mean([21, 22, 26]))
    assert psnr["deviation"] == pytest.approx(statistics.stdev([21, 22, 26]))
    paper = ["-", "-", "18.39", "0.694", "0.874", "0.032"]
    assert texts(table)["Base (paper)"] == paper
    assert "3 trainings of each variant, with the seeds 7, 1 and 4: " in table.caption
    assert not any("Two seeds" in note for note in table.notes)


def test_what_was_done_and_the_command_stand_with_the_table(pair, tmp_path):
    table = write_seeds(
        tmp_path,
        pair,
        "facades",
        parameters=PARAMETERS,
        training=TRAINING,
        command=COMMAND,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"table_4.{ending}" for ending in ("html", "json", "md", "tex")
    ]
    texts = {path.suffix: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert f"```bash\n{COMMAND}\n```\n" in texts[".md"]
    assert texts[".tex"].startswith(f"% To repeat it:\n% {COMMAND}\n\\begin{{table*}}")
    assert "gmsrm compare --config c_d.py --set" in texts[".html"]
    assert (
        "Mean ± sample standard deviation over 2 trainings of each variant, with the seeds 0 and "
        f"3: {TRAINING}. All were scored on the same 7 pictures with the same masks."
    ) in texts[".html"]
    assert sum("Two seeds only" in note for note in table.notes) == 1
    facts = json.loads(texts[".json"])
    assert facts["command"] == COMMAND
    assert facts["seeds"] == [0, 3]
    assert facts["pictures"] == 7
    assert facts["mask_list_sha256"] == "00" * 32
    assert list(facts["variants"]) == list(ROWS)
    assert facts["variants"]["GM-CSV"]["parameters"] == {"trained": 1_234_569, "frozen": 178_000}
    assert facts["variants"]["Base"]["scores"]["psnr"]["values"] == {"0": 20.0, "3": 23.0}


def test_the_print_is_aligned(pair):
    lines = to_text(table_of(pair)[0]).splitlines()
    assert lines[0].startswith("Table IV. facades. The variants, centre hole of 50%")
    header, *rows = lines[2:7]
    assert [row.split()[0] for row in rows] == list(ROWS)
    assert "24.25 ± 0.35*" in rows[3]
    for column in ("PSNR [dB] ↑", "Trained parameters"):
        end = header.index(column) + len(column)
        assert all(row[end - 1].isdigit() and row[end] in " *" for row in rows)


def test_an_undefined_score_has_no_mean(pair):
    cells = pair[3][2]["methods"]["GM-CSV"]["composite"]["centre 50%"]
    cells["ncc"] = entry(None, 0, 7)
    table, facts = table_of(pair)
    assert texts(table)["GM-CSV"][4] == "-"
    assert facts["variants"]["GM-CSV"]["scores"]["ncc"] == {
        "mean": None,
        "deviation": None,
        "values": {"0": 0.5, "3": None},
    }
    assert "Seed 3: Undefined and left out of the means: NCC of GM-CSV: 7 of 7." in table.notes


def test_seeds_scored_with_other_masks_are_refused(pair):
    for metrics in pair[3]:
        metrics["mask_list"]["sha256"] = "ab" * 32
    with pytest.raises(UserError, match=r"different mask lists \(0{12} for 0, (ab){6} for 3\)"):
        table_of(pair)


def test_one_seed_s_table_has_the_parameters_too():
    runs = evaluations({}, ("GM-SRM", "Base"))
    table = ablation_table("facades", runs, PARAMETERS)
    heads = [column for _, column in table.grid().columns]
    assert heads[:3] == ["Trained parameters", "Frozen parameters", "PSNR [dB] ↑"]
    assert [row[:2] for row in texts(table).values()] == [
        ["1,234,567", "0"],
        ["1,234,570", "267,000"],
    ]
    assert ablation_table("facades", runs).grid().shape == (2, 4)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [
        ("0,0", "0 is there twice"),
        ("1,01", "1 is there twice"),
        ("x", "'x' is no whole number"),
        ("0,x", "'x' is no whole number"),
        ("", "'' is no whole number"),
        ("0,", "'' is no whole number"),
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


@pytest.fixture
def config():
    return small_config(evaluation__dataset="facades").lock()


@pytest.fixture
def comparisons(monkeypatch):
    """What `compare` was called with, in place of trainings; it leaves made-up scores."""
    calls = []

    def compare(config, workdir, command):
        calls.append((config.seed, config.evaluation.seed, workdir, command))
        found = evaluations({"Base": {"psnr": 20.0 + config.seed}})
        for name, metrics in zip(VARIANTS, found, strict=True):
            folder = workdir / name / "evaluation"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        if config.seed == 5:
            raise NotScored("lpips was not scored")

    monkeypatch.setattr(comparison, "compare", compare)
    monkeypatch.setattr(comparison, "_steps", lambda workdir, stage: 1000)
    return calls


def test_seeds_are_done_one_after_the_other(config, comparisons, tmp_path):
    config.unlock()
    config.seed, config.evaluation.seed = 9, 4
    with pytest.raises(NotScored):  # which does not keep the next seed from being done
        comparison.compare_seeds(config.lock(), tmp_path, (5, 2), COMMAND)
    assert comparisons == [
        (5, 4, tmp_path / "seed_5", COMMAND),
        (2, 4, tmp_path / "seed_2", COMMAND),
    ]
    facts = json.loads((tmp_path / "table_4.json").read_text(encoding="utf-8"))
    assert facts["variants"]["Base"]["scores"]["psnr"]["mean"] == 23.5
    assert "1,000 steps of" in facts["training"]
    assert config.seed == 9
    assert comparison.compare_seeds(config, tmp_path, (2, 3), COMMAND) == tmp_path / "table_4.html"


def test_one_and_several_seeds_are_not_mixed_in_a_folder(config, tmp_path):
    (tmp_path / "a" / "shared").mkdir(parents=True)
    with pytest.raises(UserError, match="a comparison of one seed"):
        comparison.compare_seeds(config, tmp_path / "a", (0, 1), COMMAND)
    (tmp_path / "b" / "seed_0" / "shared").mkdir(parents=True)
    with pytest.raises(UserError, match="a comparison of several seeds"):
        comparison.compare(config, tmp_path / "b", COMMAND)


def test_parameters_are_those_that_training_has(comparisons, tmp_path):
    config = small_config()
    comparison.compare_seeds(config, tmp_path, (0, 1), COMMAND)
    facts = json.loads((tmp_path / "table_4.json").read_text(encoding="utf-8"))
    for variant, row in zip(VARIANTS, ROWS, strict=True):
        own = small_config(variant=variant)
        specs = METHODS["gm_srm"].stages_of(own)
        stages = {spec.name: spec.build(context()) for spec in specs}
        given = shapes_given(own, specs[-1], stages)
        state = abstract_state(stages[specs[-1].name], 0, given)
        counts = {
            name: sum(leaf.size for leaf in jax.tree.leaves(part["network"]))
            for name, part in (("trained", state.variables), ("frozen", state.kept))
        }
        assert facts["variants"][row]["parameters"] == counts
        assert (counts["frozen"] == 0) == (variant == "base")
