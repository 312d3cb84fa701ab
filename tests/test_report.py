"""The report: complete in itself, escaped, and with the numbers of the metrics."""

import base64
import io

import numpy as np
import pytest
from html_page import Page
from made_up_scores import make_metrics
from PIL import Image
from table_readers import html_rows

from gmsrm_jax.evaluation.examples import Examples
from gmsrm_jax.metrics import DEFINITIONS
from gmsrm_jax.report.charts import curves_from_log
from gmsrm_jax.report.pictures import Picture, panel_rows
from gmsrm_jax.report.report import write_report

NASTY = "<script>alert('&')</script>\""
BINS = ("20-30%", "centre 50%")
DIGITS = {"psnr": 2, "ssim": 4, "ncc": 4, "lmse": 4}


def cell(mean, count=7, undefined=0):
    return {"mean": mean, "count": count, "undefined": undefined}


@pytest.fixture(scope="module")
def metrics():
    """Two methods whose every score differs; the NCC of one is undefined in one bin."""
    random = np.random.default_rng(0)
    kinds = ("composite", "composite_unrounded", "raw")
    methods = {
        method: {
            kind: {
                name: {metric: cell(float(random.uniform(1, 30))) for metric in DEFINITIONS}
                for name in BINS
            }
            for kind in kinds
        }
        for method in (NASTY, "mean colour")
    }
    methods["mean colour"]["composite"][BINS[0]]["ncc"] = cell(None, 0, 7)
    return {
        "definitions": {name: item._asdict() for name, item in DEFINITIONS.items()},
        "images": {kind: f"how {kind} is made" for kind in kinds},
        "pictures": 7,
        "image_size": 64,
        "mask_list": {
            "source": "generated & drawn",
            "seed": 0,
            "sha256": "0123abcd",
            "bins": {name: {"count": 7, "mean_ratio": 0.25} for name in BINS},
        },
        "methods": methods,
    }


@pytest.fixture(scope="module")
def examples():
    random = np.random.default_rng(1)
    return Examples(
        pictures=("a.jpg", NASTY),
        bins=BINS,
        ratios=np.array([0.25, 0.5]),
        methods=("GM-SRM", "mean colour"),
        truth=random.integers(0, 256, (2, 32, 32, 3), np.uint8),
        mask=random.integers(0, 2, (2, 32, 32, 1), np.uint8),
        composite=random.integers(0, 256, (2, 2, 32, 32, 3), np.uint8),
        raw=random.integers(0, 256, (2, 2, 32, 32, 3), np.uint8),
    )


RECORDS = [
    {"step": 10, "images": 80, "seconds": 1.0, "loss/generator": 2.5, "noise/mean": 1.0},
    {"step": 20, "images": 160, "seconds": 2.0, "loss/generator": None, "noise/mean": 2.0},
    {"step": 30, "images": 240, "seconds": 3.0, "loss/generator": 1.5, "validation/psnr": 20.0},
]


@pytest.fixture(scope="module")
def page_text(metrics, examples, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path,
        title=NASTY,
        command=f"run --config={NASTY}",
        facts={NASTY: NASTY},
        verdicts=[f"best of all: {NASTY}"],
        metrics=metrics,
        panels=panel_rows(examples, "GM-SRM"),
        curves=curves_from_log(NASTY, RECORDS),
        figures=[Picture("Samples", np.zeros((8, 8, 3), np.uint8), f"samples {NASTY}")],
        config={"data": {"train": NASTY, "scale": (1.0, 1.5)}},
    )
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(page_text):
    return Page(page_text)


def pictures_of(page, kind):
    """Attributes of the page's pictures of a kind."""
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    return [image for image in images if image["src"].startswith(f"data:image/{kind};base64,")]


def test_nothing_is_fetched(page, page_text):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base"}
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:image/"), (tag, name)
    style = page_text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_what_came_out_is_first_then_pictures_then_tables(page):
    text = "".join(page.text)
    places = [text.index(words) for words in ("best of all: ", "Filled pictures", "Scores")]
    assert places == sorted(places) and text.index(f"run --config={NASTY}") > places[-1]


def test_text_is_escaped(page, page_text):
    assert "<script" not in page_text
    text = "".join(page.text)
    assert text.count(NASTY) >= 8  # title, heading, facts, tables, stage, command, config
    labels = [attributes.get("alt", "") for _, attributes in page.tags]
    assert any(label.endswith(NASTY) for label in labels)


def test_tables_hold_the_metrics(page, metrics):
    tables = [table for table in page.tables if table["caption"]]
    kind = "composite"
    for (table,) in [tables]:
        head, rows = html_rows(table)
        assert [item["text"] for item in head[1][2:]] == list(BINS)
        assert len(rows) == len(DEFINITIONS) * len(metrics["methods"])
        for number, (metric, definition) in enumerate(DEFINITIONS.items()):
            own = rows[2 * number : 2 * number + 2]
            assert own[0][0]["text"].startswith(definition.label)
            assert own[0][0]["text"].endswith("↑" if definition.better == "higher" else "↓")
            assert [row[1]["text"] for row in own] == list(metrics["methods"])
            for place, name in enumerate(BINS, start=2):
                means = [m[kind][name][metric]["mean"] for m in metrics["methods"].values()]
                shown = ["-" if v is None else f"{v:.{DIGITS[metric]}f}" for v in means]
                assert [row[place]["text"] for row in own] == shown
                if None in means:
                    best = []
                else:
                    best = [max(means) if definition.better == "higher" else min(means)]
                assert [row[place]["bold"] for row in own] == [mean in best for mean in means]


def test_undefined_scores_are_mentioned(page):
    text = "".join(page.text)
    assert "Undefined and left out of the means: NCC of mean colour: 7 of 14." in text


def test_definitions_command_and_config_are_there(page):
    text = "".join(page.text)
    for definition in DEFINITIONS.values():
        assert definition.text in text
    assert f"run --config={NASTY}" in text
    assert "0123abcd" in text
    rows = [[item["text"] for item in row] for table in page.tables for row in table["rows"]]
    assert ["data.train", NASTY] in rows
    assert ["data.scale", "[1.0, 1.5]"] in rows


def test_pictures_have_alternative_texts_and_their_pixels(page, examples):
    images = pictures_of(page, "png")
    assert len(images) == 2 * 6 + 1
    assert all(attributes["alt"] for attributes in images)

    def pixels(attributes):
        data = base64.b64decode(attributes["src"].split(",")[1])
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture)

    held, mask, filled, raw, mean, truth = (pixels(image) for image in images[6:12])
    hole = examples.mask[1, ..., 0] == 1
    assert (held[hole] == 127).all()
    np.testing.assert_array_equal(held[~hole], examples.truth[1][~hole])
    np.testing.assert_array_equal(mask[..., 0] == 255, hole)
    np.testing.assert_array_equal(filled, examples.composite[0, 1])
    np.testing.assert_array_equal(raw, examples.raw[0, 1])
    np.testing.assert_array_equal(mean, examples.composite[1, 1])
    np.testing.assert_array_equal(truth, examples.truth[1])


def test_panel_columns(examples):
    rows = panel_rows(examples, "GM-SRM")
    labels = [picture.label for picture in rows[0].pictures]
    assert labels == ["input", "mask", "GM-SRM", "GM-SRM, raw output", "mean colour", "truth"]
    assert [row.label for row in rows] == list(BINS)
    assert [row.label for row in panel_rows(examples, "GM-SRM", count=1)] == [BINS[0]]
    with pytest.raises(ValueError, match="'other' is not one of"):
        panel_rows(examples, "other")


def test_charts_are_in_the_page(page, page_text):
    svgs = pictures_of(page, "svg+xml")
    assert len(svgs) == 3
    assert all(NASTY in svg["alt"] for svg in svgs)
    assert "1 of 3 values are not finite and left out" in page_text


def test_masks_of_the_pictures_own_are_not_said_to_be_of_every_size(tmp_path):
    paired = make_metrics(["GM-SRM"], bins=["0-10%", "60-100%"])
    for facts, count in zip(paired["mask_list"]["bins"].values(), (3, 4), strict=True):
        facts["count"] = count
    path = tmp_path / "report.html"
    plain = make_metrics(["GM-SRM"])
    for metrics, hole in ((paired, "a hole of its own"), (plain, "one hole of every size")):
        write_report(path, title="T", command="c", facts={}, metrics=metrics)
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert f"Means over 7 pictures at 64 px, each with {hole}" in text


def test_parts_that_are_missing_are_left_out(tmp_path):
    path = tmp_path / "folder" / "report.html"
    write_report(path, title="T", command="c", facts={})
    text = path.read_text(encoding="utf-8")
    Page(text)
    assert "Scores" not in text
    assert "Filled pictures" not in text
    assert "config" not in text
