"""The report: complete in itself, escaped, and with the numbers of the metrics."""

import base64
import io
import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.evaluation.examples import Examples
from gmsrm_jax.metrics import DEFINITIONS
from gmsrm_jax.panels import grid, mask_picture, to_png, upscale
from gmsrm_jax.report.charts import Curve, curves_from_log, line_chart, nice_ticks
from gmsrm_jax.report.report import Picture, panel_rows, write_report

NASTY = "<script>alert('&')</script>\""
BINS = ("20-30%", "centre 50%")
DIGITS = {"psnr": 2, "ssim": 4, "ncc": 4, "lmse": 4}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects elements, their attributes, and the text of tables; checks that tags match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.tables, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append({"caption": "", "rows": []})
        elif tag == "tr":
            self.tables[-1]["rows"].append([])
        elif tag in ("td", "th"):
            self.tables[-1]["rows"][-1].append({"text": "", "bold": False})
        elif tag == "b":
            self.tables[-1]["rows"][-1][-1]["bold"] = True

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "caption" in self.open:
            self.tables[-1]["caption"] += data
        elif "td" in self.open or "th" in self.open:
            self.tables[-1]["rows"][-1][-1]["text"] += data


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


def test_nothing_is_fetched(page, page_text):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base"}
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:image/png;base64,"), (tag, name)
    style = page_text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_text_is_escaped(page, page_text):
    assert "<script" not in page_text
    text = "".join(page.text)
    assert text.count(NASTY) >= 8  # title, heading, facts, tables, stage, command, config
    labels = [attributes.get("alt", "") for _, attributes in page.tags]
    assert any(label.endswith(NASTY) for label in labels)


def test_tables_hold_the_metrics(page, metrics):
    tables = [table for table in page.tables if table["caption"]]
    kinds = list(metrics["images"])
    assert len(tables) == len(kinds) * len(DEFINITIONS)
    for number, table in enumerate(tables):
        kind = kinds[number // len(DEFINITIONS)]
        metric = list(DEFINITIONS)[number % len(DEFINITIONS)]
        definition = DEFINITIONS[metric]
        assert table["caption"].startswith(definition.label)
        assert table["caption"].endswith("↑" if definition.better == "higher" else "↓")
        head, *rows = table["rows"]
        assert [item["text"] for item in head[1:]] == list(BINS)
        assert [row[0]["text"] for row in rows] == list(metrics["methods"])
        for place, name in enumerate(BINS, start=1):
            means = [m[kind][name][metric]["mean"] for m in metrics["methods"].values()]
            shown = ["-" if v is None else f"{v:.{DIGITS[metric]}f}" for v in means]
            assert [row[place]["text"] for row in rows] == shown
            if None in means:
                best = []
            else:
                best = [max(means) if definition.better == "higher" else min(means)]
            assert [row[place]["bold"] for row in rows] == [mean in best for mean in means]


def test_undefined_scores_are_mentioned(page):
    text = "".join(page.text)
    assert "NCC of mean colour, 20-30%: undefined for 7 pictures, mean of the other 0." in text


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
    images = [attributes for tag, attributes in page.tags if tag == "img"]
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
    with pytest.raises(ValueError, match="'other' is not one of"):
        panel_rows(examples, "other")


def test_charts_are_in_the_page(page, page_text):
    svgs = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(svgs) == 3
    assert all(svg["role"] == "img" and NASTY in svg["aria-label"] for svg in svgs)
    assert "1 of 3 values are not finite and left out" in page_text


def test_parts_that_are_missing_are_left_out(tmp_path):
    path = tmp_path / "folder" / "report.html"
    write_report(path, title="T", command="c", facts={})
    text = path.read_text(encoding="utf-8")
    Page(text)
    assert "Scores" not in text
    assert "Filled pictures" not in text
    assert "config" not in text


# --- charts -------------------------------------------------------------------------------------


def test_curves_from_log():
    curves = {curve.tag: curve for curve in curves_from_log("Stage", RECORDS)}
    assert list(curves) == ["loss/generator", "noise/mean", "validation/psnr"]
    generator = curves["loss/generator"]
    assert generator.steps == (10, 20, 30)
    np.testing.assert_array_equal(generator.values, [2.5, math.nan, 1.5])
    assert generator.group == "loss"
    assert curves["validation/psnr"].steps == (30,)


def line_points(svg):
    """The points of the drawn line."""
    root = ElementTree.fromstring(svg)
    line = root.find("{http://www.w3.org/2000/svg}polyline")
    return np.array([[float(c) for c in point.split(",")] for point in line.get("points").split()])


def test_a_chart_is_well_formed_and_in_proportion():
    svg = line_chart(Curve(NASTY, "loss/<x>", (0, 50, 100), (3.0, 2.0, 1.0)))
    points = line_points(svg)
    assert points.shape == (3, 2)
    assert points[1] == pytest.approx((points[0] + points[2]) / 2, abs=0.11)
    assert points[0, 1] < points[2, 1]  # larger values are higher up: smaller y
    root = ElementTree.fromstring(svg)
    width, height = (float(size) for size in root.get("viewBox").split()[2:])
    assert (points > 0).all()
    assert (points < [width, height]).all()
    title = root.find("{http://www.w3.org/2000/svg}title").text
    assert title == f"{NASTY}: loss/<x> over the steps, last value 1"
    texts = [item.text for item in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"step", "loss/<x>", "100", "3"} <= set(texts)


@pytest.mark.parametrize(
    ("steps", "values"),
    [
        ((5,), (1.0,)),
        ((5, 6, 7), (0.0, 0.0, 0.0)),
        ((1, 2), (1e-12, 2e-12)),
        ((1, 2), (-1e9, 1e9)),
        ((1, 2, 3), (1.0, math.nan, 2.0)),
        ((1, 2, 3), (math.inf, 1.0, -math.inf)),
        ((0,), (-7.0,)),
    ],
)
def test_odd_curves_can_be_drawn(steps, values):
    svg = line_chart(Curve("s", "t", steps, values))
    ElementTree.fromstring(svg)
    assert "nan" not in svg
    assert "inf" not in svg


def test_long_logs_are_averaged():
    steps = tuple(range(10_000))
    values = tuple(1.0 if step % 2 else 3.0 for step in steps)
    svg = line_chart(Curve("s", "t", steps, values))
    points = line_points(svg)
    assert len(points) <= 240
    assert np.ptp(points[:, 1]) < 4.0  # all near the mean of 2, the range is in the band
    root = ElementTree.fromstring(svg)
    band = root.find("{http://www.w3.org/2000/svg}polygon").get("points").split()
    heights = np.array([float(point.split(",")[1]) for point in band])
    assert np.ptp(heights) > 100.0


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-3.0, 17.0), (0.00012, 0.00019), (0.0, 337_500.0), (99.0, 101.0)]
)
def test_ticks_are_round_and_inside(low, high):
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    step = ticks[1] - ticks[0]
    assert np.allclose(np.diff(ticks), step)
    mantissa = step / 10.0 ** math.floor(math.log10(step * 1.0000001))
    assert any(math.isclose(mantissa, nice, rel_tol=1e-6) for nice in (1.0, 2.0, 5.0))
    assert min(ticks) >= low - 1e-9 * step
    assert max(ticks) <= high + 1e-9 * step


# --- panels -------------------------------------------------------------------------------------


def test_grid_places_pictures_row_by_row():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    sheet = grid(images, 3, gap=1)
    assert sheet.shape == (2 * 4 + 1, 3 * 6 + 2, 3)
    for index in range(5):
        top, left = index // 3 * 5, index % 3 * 7
        assert (sheet[top : top + 4, left : left + 6] == index).all()
    assert (sheet[4] == 255).all()
    assert (sheet[:, 6] == 255).all()
    assert (sheet[5:, 14:] == 255).all()
    assert grid(images, 99, gap=0).shape == (4, 30, 3)


def test_grid_refuses_other_arrays():
    with pytest.raises(ValueError, match="uint8"):
        grid(np.zeros((2, 4, 4, 3), np.float32), 2)
    with pytest.raises(ValueError, match="uint8"):
        grid(np.zeros((0, 4, 4, 3), np.uint8), 2)
    with pytest.raises(ValueError, match="columns"):
        grid(np.zeros((2, 4, 4, 3), np.uint8), 0)


def test_upscale_repeats_pixels():
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    large = upscale(image, 3)
    assert large.shape == (2, 9, 12, 3)
    for row, column in np.ndindex(9, 12):
        np.testing.assert_array_equal(large[:, row, column], image[:, row // 3, column // 3])


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 1), (5, 7)])
def test_png_keeps_every_pixel(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(to_png(image))) as picture:
        np.testing.assert_array_equal(np.asarray(picture).reshape(shape), image)


def test_png_refuses_other_arrays():
    with pytest.raises(ValueError, match="uint8"):
        to_png(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="uint8"):
        to_png(np.zeros((4, 4, 2), np.uint8))


def test_mask_picture_is_white_in_the_hole():
    picture = mask_picture(np.array([[[0], [1]]], np.uint8))
    np.testing.assert_array_equal(picture, [[[0, 0, 0], [255, 255, 255]]])
    assert picture.dtype == np.uint8
