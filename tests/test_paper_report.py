"""The paper's tables and figures as files, and as parts of the report."""

import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from html_page import Page
from made_up_scores import PAPER_METRICS, entry, make_metrics
from PIL import Image
from table_readers import html_rows

from gmsrm_jax.data.masks.bins import BIN_NAMES
from gmsrm_jax.evaluation.examples import Examples, figure_examples
from gmsrm_jax.evaluation.published import CENTRE_BINS, IRREGULAR_BINS, PUBLISHED
from gmsrm_jax.report.paper_report import figure_7, write_outputs
from gmsrm_jax.report.pictures import ablation, comparison, not_filled, panel_rows
from gmsrm_jax.report.report import write_report
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.image_grid import outline

METHODS = ("GM-SRM", "Base", "mean colour")


def make_examples(pictures, bins, methods=METHODS, size=32, seed=0):
    random = np.random.default_rng(seed)
    count = len(pictures)
    mask = np.zeros((count, size, size, 1), np.uint8)
    mask[:, 8:20, 10:30] = 1
    return Examples(
        pictures=tuple(pictures),
        bins=tuple(bins),
        ratios=np.full(count, 0.234),
        methods=tuple(methods),
        truth=random.integers(1, 255, (count, size, size, 3), np.uint8),
        mask=mask,
        composite=random.integers(1, 255, (len(methods), count, size, size, 3), np.uint8),
        raw=random.integers(1, 255, (len(methods), count, size, size, 3), np.uint8),
    )


def make_sized_metrics(methods=METHODS):
    """Metrics with a different mean hole in every bin."""
    metrics = make_metrics(methods)
    for number, facts in enumerate(metrics["mask_list"]["bins"].values()):
        facts["mean_ratio"] = 0.053 + 0.1 * number
    return metrics


@pytest.fixture(scope="module")
def examples():
    return make_examples("abcdefgh", BIN_NAMES)


# --- figures ------------------------------------------------------------------------------------


def test_comparison_shows_input_methods_and_truth_outlined(examples):
    figure = comparison("figure_8", examples, pictures=["d", "c"])
    assert [row.label for row in figure.rows] == ["30-40%", "20-30%"]
    assert figure.rows[0].detail == "23.4% of d"
    row = figure.rows[0]
    assert [p.label for p in row.pictures] == ["input", *METHODS, "truth"]
    assert row.pictures[1].alt == "GM-SRM: d, hole 30-40%"

    def large(image):  # 32 px become 192 px
        return np.kron(image, np.ones((6, 6, 1), np.uint8))

    mask = large(examples.mask[3])
    for picture, filled in zip(row.pictures[1:4], examples.composite[:, 3], strict=True):
        np.testing.assert_array_equal(picture.image, outline(large(filled), mask))
        assert (picture.image != large(filled)).any()
    np.testing.assert_array_equal(row.pictures[4].image, large(examples.truth[3]))
    held = row.pictures[0].image
    hole = mask[..., 0] == 1
    assert (held[hole] == 127).all()
    np.testing.assert_array_equal(held[~hole], outline(large(examples.truth[3]), mask)[~hole])


def test_comparison_draws_pictures_by_seed(examples):
    def names(seed, given=examples):
        rows = comparison("figure_6", given, seed=seed).rows
        return [row.pictures[0].alt[7] for row in rows]

    assert names(0) == names(0) == ["c", "d", "e", "f"]  # the irregular holes of 20-60 %
    many = make_examples([f"{i:x}" for i in range(16)], ["30-40%"] * 16)
    assert len(names(0, many)) == 4
    assert len({tuple(names(seed, many)) for seed in range(6)}) > 3
    assert names(3, many) == sorted(names(3, many))
    centre = make_examples("ab", CENTRE_BINS)
    assert names(0, centre) == ["a", "b"]  # what there is
    twice = make_examples("aab", ["30-40%", "40-50%", "20-30%"])
    assert names(0, twice) == ["a", "b"]  # a picture is shown once


def test_no_examples_no_figure():
    nothing = make_examples((), ())
    assert comparison("figure_6", nothing) is None
    assert ablation(nothing) is None


def test_large_pictures_keep_their_size():
    figure = comparison("figure_6", make_examples("a", ["20-30%"], size=256))
    assert {picture.image.shape for picture in figure.rows[0].pictures} == {(256, 256, 3)}


def test_unknown_pictures_are_refused(examples):
    with pytest.raises(UserError, match=r"figures: z.jpg is not among the 8 pictures"):
        comparison("figure_6", examples, pictures=["a", "z.jpg"])


def test_ablation_shows_the_variants():
    bins = ["centre 50%", "20-30%", "centre 50%"]
    examples = make_examples("abc", bins, ("GM-SRM", "mean colour", "GM-BM", "Base"))
    figure = ablation(examples)
    assert figure.name == "figure_10"
    assert [row.detail[-1] for row in figure.rows] == ["a", "c"]
    labels = [picture.label for picture in figure.rows[1].pictures]
    assert labels == ["input", "Base", "GM-BM", "GM-SRM", "truth"]
    inside = np.s_[9 * 6 : 19 * 6, 11 * 6 : 29 * 6]
    for picture, place in zip(figure.rows[1].pictures[1:4], (3, 2, 0), strict=True):
        expected = np.kron(examples.composite[place, 2], np.ones((6, 6, 1), np.uint8))
        np.testing.assert_array_equal(picture.image[inside], expected[inside])
    assert ablation(make_examples("abc", bins, ("GM-SRM", "mean colour"))) is None  # one variant


def test_bins_that_a_method_left_out_are_white(examples):
    metrics = make_metrics(METHODS)
    for metric in PAPER_METRICS:
        metrics["methods"]["Base"]["composite"]["30-40%"][metric] = entry(None, 0, 0)
    metrics["methods"]["Base"]["composite"]["20-30%"]["ncc"] = entry(None, 0, 7)
    missing = not_filled(metrics)
    assert missing == {("Base", "30-40%")}
    figure = comparison("figure_6", examples, ["c", "d"], missing=missing)
    white = [[(p.image == 255).all() for p in row.pictures] for row in figure.rows]
    assert white == [[False] * 5, [False, False, True, False, False]]
    rows = panel_rows(examples, "GM-SRM", missing)
    white = {(r.label, p.label) for r in rows for p in r.pictures if (p.image == 255).all()}
    assert white == {("30-40%", "Base")}


def test_figure_examples():
    names = [f"{i}.jpg" for i in range(50)]
    chosen = figure_examples(names, BIN_NAMES, seed=3)
    assert chosen == figure_examples(names, BIN_NAMES, seed=3)
    assert chosen != figure_examples(names, BIN_NAMES, seed=4)
    pictures = [example // 8 for example in chosen]
    assert pictures[::2] == pictures[1::2] == sorted(set(pictures))
    assert len(chosen) == 8
    bins = [BIN_NAMES[example % 8] for example in chosen]
    assert bins[::2] == ["20-30%", "30-40%", "40-50%", "50-60%"]
    assert set(bins[1::2]) == {"centre 50%"}
    named = figure_examples(names, BIN_NAMES, pictures=["7.jpg", "2.jpg", "7.jpg"])
    assert named == [7 * 8 + 2, 7 * 8 + 7, 2 * 8 + 3, 2 * 8 + 7]
    five = figure_examples(names, BIN_NAMES, pictures=names[:5])
    assert [BIN_NAMES[example % 8] for example in five[8:]] == ["20-30%", "centre 50%"]
    assert figure_examples(["a"], ("centre 50%",)) == [0]
    assert figure_examples(["a", "b"], ("30-40%",), pictures=["b"]) == [1]
    with pytest.raises(UserError, match=r"x.jpg is not among the 50 evaluated"):
        figure_examples(names, BIN_NAMES, pictures=["x.jpg"])


# --- Figure 7 -----------------------------------------------------------------------------------


def test_figure_7_holds_the_metrics_and_the_papers_points():
    metrics = make_sized_metrics()
    panels, note = figure_7(metrics, "Paris StreetView")
    assert "from its Table I" in note
    assert list(panels) == ["PSNR [dB] ↑", "SSIM ↑"]
    theirs = ("PConv", "DeepFill V2", "LISK", "MEDFE", "Lahiri et al.", "GM-SRM")
    for lines, metric in zip(panels.values(), ("psnr", "ssim"), strict=True):
        lines = {line.label: line for line in lines}
        assert sorted(lines) == sorted([*METHODS, *(f"{method} (paper)" for method in theirs)])
        for method in METHODS:
            assert lines[method].x == pytest.approx([5.3 + 10 * number for number in range(6)])
            assert lines[method].y == tuple(
                metrics["methods"][method]["composite"][name][metric]["mean"]
                for name in BIN_NAMES[:6]
            )
            assert not lines[method].published
        for method in theirs:
            line = lines[f"{method} (paper)"]
            assert line.x == pytest.approx((25.0, 35.0, 45.0, 55.0))
            cells = [("Paris StreetView", "I", method, metric, b) for b in IRREGULAR_BINS]
            assert line.y == tuple(PUBLISHED[cell] for cell in cells)
            assert line.published


def test_figure_7_of_another_data_set_has_only_ours():
    panels, note = figure_7(make_sized_metrics(), "facades")
    assert note == ""
    assert [[line.label for line in lines] for lines in panels.values()] == [list(METHODS)] * 2
    assert figure_7(make_metrics(METHODS, bins=CENTRE_BINS), "Places2") == ({}, "")


# --- files and report ---------------------------------------------------------------------------


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def table_files(*names):
    return [f"{name}.{ending}" for name in names for ending in ("html", "md", "tex")]


def test_everything_is_written(tmp_path, examples):
    outputs = write_outputs(tmp_path, make_sized_metrics(), examples, "Places2", pictures=["c"])
    figures = [f"figures/{name}" for name in ("figure_10.png", "figure_7.svg", "figure_9.png")]
    assert files(tmp_path) == figures + table_files("table_1", "table_2", "table_4", "table_all")
    assert [table.name for table in outputs.tables] == ["table_1", "table_2", "table_4"]
    assert [figure.name for figure in outputs.figures] == ["figure_9", "figure_10"]
    ElementTree.fromstring((tmp_path / "figures" / "figure_7.svg").read_bytes())
    with Image.open(tmp_path / "figures" / "figure_9.png") as picture:
        sheet = np.asarray(picture)
    first = outputs.figures[0].rows[0].pictures[0].image
    np.testing.assert_array_equal(sheet[:192, :192], first)
    page = (tmp_path / "table_2.html").read_text(encoding="utf-8")
    assert "25.86" not in page  # Paris
    assert "23.33" in page
    assert len(Page(page).tables) == 1
    assert "| GM-SRM (paper) | A + B | 23.33 | 19.51 |" in (tmp_path / "table_2.md").read_text()


def test_a_data_set_without_a_name_and_one_variant(tmp_path, examples):
    methods = ["GM-SRM", "mean colour"]
    one = make_examples("abcdefgh", BIN_NAMES, methods)
    outputs = write_outputs(tmp_path, make_metrics(methods), one, None)
    figures = ["figures/figure_6.png", "figures/figure_7.svg"]
    assert files(tmp_path) == figures + table_files("table_1", "table_2", "table_all")
    assert outputs.chart_note == ""
    assert set(outputs.tables[0].scores["data_set"]) == {"Test pictures"}
    assert "paper" not in (tmp_path / "table_1.md").read_text(encoding="utf-8")


def test_nothing_of_an_earlier_evaluation_stays(tmp_path, examples):
    write_outputs(tmp_path, make_sized_metrics(), examples, "Places2")
    (tmp_path / "notes.md").write_text("mine")
    one = make_examples("abcdefgh", BIN_NAMES, ["GM-SRM"])
    write_outputs(tmp_path, make_metrics(["GM-SRM"]), one, None)
    written = ["figures/figure_6.png", "figures/figure_7.svg", "notes.md"]
    assert files(tmp_path) == written + table_files("table_1", "table_2", "table_all")


@pytest.fixture(scope="module")
def report(tmp_path_factory, examples):
    folder = tmp_path_factory.mktemp("report")
    metrics = make_sized_metrics()
    metrics["definitions"]["l1"] = {"label": "L1", "text": "t", "unit": "1", "better": "lower"}
    for kinds in metrics["methods"].values():
        for scores in kinds["composite"].values():
            scores["l1"] = entry(0.125)
    paper = write_outputs(folder, metrics, examples, "Paris StreetView")
    path = folder / "report.html"
    write_report(path, title="T", command="c", facts={}, metrics=metrics, paper=paper)
    return paper, path.read_text(encoding="utf-8")


def test_report_holds_the_tables(report):
    paper, text = report
    tables = [table for table in Page(text).tables if table["class"] == "layout"]
    captions = [table["caption"].split(".")[0] for table in tables]
    assert captions[:5] == ["Table I", "Table I", "Table II", "Table II", "Table IV"]
    groups = [
        [row[0]["text"] for row in html_rows(t)[1] if row[0]["rows"] > 1 and row[0]["text"]]
        for t in tables
    ]
    paper_metrics = ["PSNR [dB] ↑", "SSIM ↑", "NCC ↑", "LMSE ↓"]
    assert groups[:5] == [paper_metrics, ["L1 ↓"], paper_metrics, ["L1 ↓"], []]
    for table, source in zip((tables[0], tables[2]), paper.tables, strict=False):
        rows = html_rows(table)[1]
        wanted, bold = source.grid(), source.grid("best")
        wanted, bold = (grid.loc[paper_metrics].iloc[:, 1:].to_numpy() for grid in (wanted, bold))
        shown = [[cell["text"] for cell in row[3:]] for row in rows]
        assert shown == wanted.tolist()
        assert [[cell["bold"] for cell in row[3:]] for row in rows] == bold.tolist()
    assert [c["text"] for c in tables[4]["rows"][1][1:]] == [*paper_metrics, "L1 ↓"]


def test_report_holds_charts_and_figures_and_fetches_nothing(report):
    paper, text = report
    page = Page(text)
    assert paper.chart_note in "".join(page.text)
    every = [attributes for tag, attributes in page.tags if tag == "img"]
    images = [image for image in every if "image/png" in image["src"]]
    drawn = [image for image in every if image not in images]
    assert [image["alt"] for image in drawn] == [chart.alt for chart in paper.charts]
    for image, chart in zip(drawn, paper.charts, strict=True):
        assert base64.b64decode(image["src"].split(",")[1]).decode() == chart.svg
    wanted = [p for figure in paper.figures for row in figure.rows for p in row.pictures]
    assert len(images) == len(wanted) == 4 * 5 + 1 * 4
    for attributes, picture in zip(images, wanted, strict=True):
        assert attributes["src"].startswith("data:image/png;base64,")
        data = base64.b64decode(attributes["src"].split(",")[1])
        with Image.open(io.BytesIO(data)) as stored:
            np.testing.assert_array_equal(np.asarray(stored), picture.image)
        assert attributes["alt"] == picture.alt
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed"}
    headings = [line for line in ("Figure 6", "Figure 7", "Figure 10") if line in text]
    assert len(headings) == 3


def test_report_folds_every_hole_size_behind_the_papers_tables(report):
    _, text = report
    assert "<summary>Every hole size</summary>" in text
    tables = [t for t in Page(text).tables if t["caption"].startswith("All hole sizes")]
    groups = [
        [row[0]["text"] for row in html_rows(t)[1] if row[0]["rows"] > 1 and row[0]["text"]]
        for t in tables
    ]
    four = ["PSNR [dB] ↑", "SSIM ↑", "NCC ↑", "LMSE ↓"]
    assert groups == [[*four, "L1 ↓"]]
