"""Charts are well-formed SVG with every point where its numbers belong."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from gmsrm_jax.report.charts import (
    Curve,
    RatioLine,
    beside,
    curves_from_log,
    line_chart,
    nice_ticks,
    ratio_chart,
)

NASTY = "<script>alert('&')</script>\""
SVG = "{http://www.w3.org/2000/svg}"
RECORDS = [
    {"step": 10, "images": 80, "seconds": 1.0, "loss/generator": 2.5, "noise/mean": 1.0},
    {"step": 20, "images": 160, "seconds": 2.0, "loss/generator": None, "noise/mean": 2.0},
    {"step": 30, "images": 240, "seconds": 3.0, "loss/generator": 1.5, "validation/psnr": 20.0},
]


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


# --- scores over the hole's size ----------------------------------------------------------------

LINES = [
    RatioLine("GM-SRM", (5.0, 15.5, 24.0, 55.0), (33.0, 27.5, 24.25, 20.0)),
    RatioLine(NASTY, (5.0, 15.5, 24.0, 55.0), (30.0, None, 21.0, 18.0)),
    RatioLine("PConv (paper)", (25.0, 35.0), (26.85, 24.66), published=True),
]


def tick_scale(root, axis):
    """(slope, offset) of value to coordinate, from the printed ticks of an axis."""
    ticks = root.find(f"{SVG}g")
    pairs = []
    for text in ticks.iter(f"{SVG}text"):
        if re.fullmatch(r"[\d.]+", text.text or ""):
            vertical = text.get("text-anchor") == "end"
            if vertical == (axis == "y"):
                place = float(text.get(axis)) - (4.0 if vertical else 0.0)
                pairs.append((float(text.text), place))
    assert len(pairs) >= 3
    values, places = np.array(pairs).T
    slope, offset = np.polyfit(values, places, 1)
    np.testing.assert_allclose(slope * values + offset, places, atol=0.06)
    return slope, offset


def markers(root):
    """Titles and centres of the markers of the points, in order."""
    found = []
    for path in root.findall(f"{SVG}path"):
        place = re.fullmatch(r"translate\(([\d.]+) ([\d.]+)\)", path.get("transform"))
        found.append((path.find(f"{SVG}title").text, float(place[1]), float(place[2]), path))
    return found


def test_points_stand_where_their_numbers_belong():
    root = ElementTree.fromstring(ratio_chart("PSNR [dB] ↑", LINES))
    x_slope, x_offset = tick_scale(root, "x")
    y_slope, y_offset = tick_scale(root, "y")
    assert x_slope > 0 > y_slope
    points = markers(root)
    # The paper's line is drawn first, below ours.
    expected = [
        (line.label, percent, value)
        for line in (LINES[2], LINES[0], LINES[1])
        for percent, value in zip(line.percents, line.values, strict=True)
        if value is not None
    ]
    assert len(points) == len(expected) == 9
    for (title, x, y, _), (label, percent, value) in zip(points, expected, strict=True):
        assert title == f"{label}, hole of {percent:.1f} %: {value:.4g}"
        assert x == pytest.approx(x_slope * percent + x_offset, abs=0.12)
        assert y == pytest.approx(y_slope * value + y_offset, abs=0.12)


def test_a_missing_score_breaks_the_line():
    root = ElementTree.fromstring(ratio_chart("SSIM ↑", LINES))
    points = {(x, y) for _, x, y, _ in markers(root)}
    lines = [line.get("points").split() for line in root.findall(f"{SVG}polyline")]
    assert [len(line) for line in lines] == [2, 4, 2]
    drawn = {tuple(map(float, point.split(","))) for line in lines for point in line}
    assert drawn < points  # all but the point before the gap
    assert len(points - drawn) == 1


def test_lines_can_be_told_apart_without_colour():
    lines = [RatioLine(f"method {i}", (10.0, 20.0), (20.0 + i, 10.0)) for i in range(10)]
    lines += [RatioLine(f"{i} (paper)", (10.0, 20.0), (9.0, 8.0), True) for i in range(6)]
    root = ElementTree.fromstring(ratio_chart("PSNR", lines))
    looks = {}
    for title, _, _, path in markers(root):
        look = (path.get("d"), path.get("fill"), path.get("stroke"))
        looks.setdefault(title.split(", hole")[0], set()).add(look)
    assert all(len(look) == 1 for look in looks.values())
    assert len({look for (look,) in looks.values()}) == 16
    shapes = [next(iter(looks[f"method {i}"]))[0] for i in range(7)]
    assert len(set(shapes)) == 7
    dashed = [line.get("stroke-dasharray") for line in root.findall(f"{SVG}polyline")]
    assert all(dashed[:6])
    assert not any(dashed[6:])
    fills = {look[1] for label, (look,) in looks.items() if label.endswith("(paper)")}
    assert fills == {"#fff"}


def test_the_legend_names_every_line_inside_the_picture():
    root = ElementTree.fromstring(ratio_chart("PSNR", LINES))
    width, height = map(float, root.get("viewBox").split()[2:])
    legend = root.findall(f"{SVG}g")[1]
    texts = legend.findall(f"{SVG}text")
    assert [text.text for text in texts] == [line.label for line in LINES]
    assert all(0 < float(text.get("y")) < height for text in texts)
    assert all(0 < float(text.get("x")) < width for text in texts)
    assert root.get("role") == "img"
    assert NASTY in root.get("aria-label")


def test_long_names_get_a_line_of_the_legend_each():
    def columns(lines):
        root = ElementTree.fromstring(ratio_chart("PSNR", lines))
        return len({text.get("x") for text in root.findall(f"{SVG}g")[1].findall(f"{SVG}text")})

    assert columns(LINES) == 1
    assert columns([LINES[0], LINES[2]]) == 2


def test_charts_side_by_side():
    charts = [ratio_chart("PSNR", LINES), ratio_chart("SSIM", LINES[:1])]
    root = ElementTree.fromstring(beside(charts))
    inner = root.findall(f"{SVG}svg")
    assert [chart.get("x") for chart in inner] == ["0", "360"]
    width, height = map(float, root.get("viewBox").split()[2:])
    assert width == 720.0
    assert height == max(float(chart.get("height")) for chart in inner)
    for chart, alone in zip(inner, charts, strict=True):
        own = ElementTree.fromstring(alone)
        assert chart.get("viewBox") == own.get("viewBox")
        assert ElementTree.tostring(chart[2]) == ElementTree.tostring(own[2])
