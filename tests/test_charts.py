"""Charts are well-formed SVG with every point where its numbers belong; read back from it."""

import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from gmsrm_jax.report.charts import (
    Curve,
    Line,
    curves_from_log,
    line_chart,
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


def named(root, name):
    """The groups of that name, in the order in which they are drawn."""
    return [group for group in root.iter(f"{SVG}g") if group.get("id") == name]


def pieces(path):
    """The connected pieces of a path, [K, 2] each."""
    found = [piece.split() for piece in path.get("d").replace("L", " ").split("M") if piece.strip()]
    return [np.array(piece, float).reshape(-1, 2) for piece in found]


def line_points(svg):
    """The points of the drawn line."""
    (group,) = named(ElementTree.fromstring(svg), "line")
    (points,) = pieces(group.find(f"{SVG}path"))
    return points


def tick_scale(axes, axis):
    """(slope, offset) of value to coordinate, from the printed ticks of "x" or "y"."""
    pairs = []
    for group in axes.iter(f"{SVG}g"):
        if group.get("id", "").startswith(f"{axis}tick"):
            mark = group.find(f".//{SVG}use")
            text = group.find(f".//{SVG}text").text.replace("\N{MINUS SIGN}", "-")
            if mark is None:  # the grid's line in place of a mark
                (points,) = pieces(group.find(f".//{SVG}path"))
                pairs.append((float(text), points[0, "xy".index(axis)]))
            else:
                pairs.append((float(text), float(mark.get(axis))))
    assert len(pairs) >= 3
    values, places = np.array(pairs).T
    slope, offset = np.polyfit(values, places, 1)
    np.testing.assert_allclose(slope * values + offset, places, atol=0.06)
    return slope, offset


def test_a_chart_is_well_formed_and_in_proportion():
    chart = line_chart(Curve(NASTY, "loss/<x>", (0, 50, 100), (3.0, 2.0, 1.0)))
    points = line_points(chart.svg)
    root = ElementTree.fromstring(chart.svg)
    x_slope, x_offset = tick_scale(root, "x")
    y_slope, y_offset = tick_scale(root, "y")
    np.testing.assert_allclose(points[:, 0], x_slope * np.array([0, 50, 100]) + x_offset, atol=0.1)
    np.testing.assert_allclose(points[:, 1], y_slope * np.array([3, 2, 1]) + y_offset, atol=0.1)
    assert x_slope > 0 > y_slope  # larger values are higher up: smaller y
    width, height = (float(size) for size in root.get("viewBox").split()[2:])
    assert (points > 0).all()
    assert (points < [width, height]).all()
    assert chart.alt == f"{NASTY}: loss/<x> over the steps, last value 1"
    texts = [item.text for item in root.iter(f"{SVG}text")]
    assert {"step", "loss/<x>", "100"} <= set(texts)


def test_equal_input_gives_equal_bytes():
    curve = Curve("s", "a", (0, 1), (1.0, 2.0))
    assert line_chart(curve) == line_chart(curve)
    assert "<dc:date>" not in line_chart(curve).svg


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
    svg = line_chart(Curve("s", "t", steps, values)).svg
    root = ElementTree.fromstring(svg)
    assert "nan" not in svg
    (group,) = named(root, "line")
    if len([value for value in values if math.isfinite(value)]) == 1:
        assert len(list(group.iter(f"{SVG}use"))) == 1  # a marker, as there is no line
    else:
        assert line_points(svg).shape[1] == 2


def test_long_logs_are_averaged():
    steps = tuple(range(10_000))
    values = tuple(1.0 if step % 2 else 3.0 for step in steps)
    svg = line_chart(Curve("s", "t", steps, values)).svg
    points = line_points(svg)
    assert len(points) <= 240
    assert np.ptp(points[:, 1]) < 4.0  # all near the mean of 2, the range is in the band
    (band,) = named(ElementTree.fromstring(svg), "band")
    (outline,) = pieces_of_band(band)
    assert np.ptp(outline[:, 1]) > 100.0


def pieces_of_band(group):
    path = group.find(f".//{SVG}path")
    path.set("d", path.get("d").replace("z", ""))
    return pieces(path)


# --- scores over the hole's size ----------------------------------------------------------------

LINES = [
    Line("GM-SRM", (5.0, 15.5, 24.0, 55.0), (33.0, 27.5, 24.25, 20.0)),
    Line(NASTY, (5.0, 15.5, 24.0, 55.0), (30.0, None, 21.0, 18.0)),
    Line("PConv (paper)", (25.0, 35.0), (26.85, 24.66), published=True),
]


def markers(group):
    """Centres of the markers of a line."""
    return np.array([[float(use.get(a)) for a in "xy"] for use in group.iter(f"{SVG}use")])


def test_points_stand_where_their_numbers_belong():
    root = ElementTree.fromstring(ratio_chart({"PSNR [dB] ↑": LINES}).svg)
    x_slope, x_offset = tick_scale(root, "x")
    y_slope, y_offset = tick_scale(root, "y")
    assert x_slope > 0 > y_slope
    for number, line in enumerate(LINES):
        (group,) = named(root, f"line-{number}")
        points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None]
        expected = np.array(points) * [x_slope, y_slope] + [x_offset, y_offset]
        np.testing.assert_allclose(markers(group), expected, atol=0.12)
    # The paper's line is drawn first, below ours.
    drawn = [g.get("id") for g in root.iter(f"{SVG}g") if "line-" in g.get("id", "")]
    assert drawn == ["line-2", "line-0", "line-1"]


def test_a_missing_score_breaks_the_line():
    root = ElementTree.fromstring(ratio_chart({"SSIM ↑": LINES}).svg)
    lengths = [
        [len(piece) for piece in pieces(named(root, f"line-{number}")[0].find(f"{SVG}path"))]
        for number in range(3)
    ]
    assert [sum(piece for piece in line if piece > 1) for line in lengths] == [4, 2, 2]


def style(element):
    return dict(part.split(": ") for part in element.get("style").split("; "))


def test_lines_can_be_told_apart_without_colour():
    lines = [Line(f"method {i}", (10.0, 20.0), (20.0 + i, 10.0)) for i in range(10)]
    lines += [Line(f"{i} (paper)", (10.0, 20.0), (9.0, 8.0), True) for i in range(6)]
    root = ElementTree.fromstring(ratio_chart({"PSNR": lines}).svg)
    shapes = {path.get("id"): path.get("d") for path in root.iter(f"{SVG}path") if path.get("id")}
    looks, dashed = [], []
    for number in range(16):
        (group,) = named(root, f"line-{number}")
        use = group.find(f".//{SVG}use")
        shape = shapes[use.get("{http://www.w3.org/1999/xlink}href")[1:]]
        looks.append((shape, style(use).get("fill"), style(use)["stroke"]))
        dashed.append("stroke-dasharray" in style(group.find(f"{SVG}path")))
    assert len(set(looks)) == 16
    assert len({shape for shape, _, _ in looks[:7]}) == 7
    assert dashed == [False] * 10 + [True] * 6
    assert {fill for _, fill, _ in looks[10:]} == {"#ffffff"}


def test_the_legend_names_every_line_inside_the_picture():
    root = ElementTree.fromstring(ratio_chart({"PSNR": LINES, "SSIM": LINES}).svg)
    width, height = map(float, root.get("viewBox").split()[2:])
    assert width == 720.0
    assert len(named(root, "line-0")) == 2  # the panels
    (legend,) = named(root, "legend_1")
    texts = list(legend.iter(f"{SVG}text"))
    assert [text.text for text in texts] == [line.label for line in LINES]
    assert all(0 < float(text.get("y")) < height for text in texts)
    assert all(0 < float(text.get("x")) < width for text in texts)
    assert NASTY in ratio_chart({"PSNR": LINES}).alt


def test_long_names_get_a_line_of_the_legend_each():
    def columns(lines):
        root = ElementTree.fromstring(ratio_chart({"PSNR": lines}).svg)
        (legend,) = named(root, "legend_1")
        return len({text.get("x") for text in legend.iter(f"{SVG}text")})

    assert columns(LINES) == 1
    assert columns([LINES[0], LINES[2]]) == 2


def test_names_are_not_formulas():
    line = Line("_$x^2$ 顔", (1.0, 2.0), (1.0, 2.0))
    texts = ElementTree.fromstring(ratio_chart({"$y$": [line]}).svg).iter(f"{SVG}text")
    assert {line.label, "$y$"} <= {text.text for text in texts}


def test_reading_a_log_does_not_load_matplotlib():
    code = (
        "import sys; from gmsrm_jax.report import charts\n"
        "charts.curves_from_log('s', [{'step': 1, 'a': 1.0}]); print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
