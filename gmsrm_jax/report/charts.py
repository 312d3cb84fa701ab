"""Line charts as inline SVG: a run's log over the steps, and scores over the hole's size."""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 14, 10, 40
_MAX_POINTS = 240
_NOT_CURVES = ("step", "images", "seconds")
_LINE = "#1f5f8b"
_GRID = "#e3e6e8"
_INK = "#50575c"
_PAPER = "#767d82"
_LEGEND_LINE = 17
_SHORT_LABEL = 25  # characters that fit half of the width
# Okabe and Ito's colours without yellow, which is too pale on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_MARKERS = (
    "M-3.2,0a3.2,3.2 0 1,0 6.4,0a3.2,3.2 0 1,0 -6.4,0z",
    "M-3,-3h6v6h-6z",
    "M0,-3.8L3.7,2.8H-3.7z",
    "M0,-4L4,0L0,4L-4,0z",
    "M0,3.8L3.7,-2.8H-3.7z",
    "M-3,-3L3,3M-3,3L3,-3",
    "M0,-3.8V3.8M-3.8,0H3.8",
)
_VIEW_BOX = re.compile(r'viewBox="0 0 \d+ (\d+)"')


@dataclass(frozen=True)
class Curve:
    """One logged quantity of one stage over the steps.

    Attributes:
        stage: the stage's heading.
        tag: the quantity, such as "loss/generator"; the part before the slash is its group.
        steps: increasing step numbers.
        values: one value per step; those that are not finite are not drawn.
    """

    stage: str
    tag: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def group(self) -> str:
        """The part of the tag before the slash."""
        return self.tag.split("/")[0]


def curves_from_log(stage: str, records: Sequence[Mapping[str, float | None]]) -> list[Curve]:
    """Collects one curve per tag from log lines, in the order in which the tags appear.

    Args:
        stage: heading of the stage.
        records: lines of a log.jsonl, each with "step" and any tags; null becomes NaN.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for tag, value in record.items():
            if tag not in _NOT_CURVES:
                number = math.nan if value is None else float(value)
                points.setdefault(tag, []).append((int(record["step"] or 0), number))
    curves = []
    for tag, pairs in points.items():
        steps, values = zip(*pairs, strict=True)
        curves.append(Curve(stage, tag, steps, values))
    return curves


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """At most `count` + 1 round numbers (1, 2 or 5 times a power of ten apart) in [low, high]."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _tick_label(value: float) -> str:
    for limit, unit, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / unit:.6g}{letter}"
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"


def _thin(curve: Curve) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """At most 240 points: (step, mean, lowest, highest) of equal runs of finite neighbours."""
    values = np.array(curve.values)
    finite = np.isfinite(values)
    steps, values = np.array(curve.steps, float)[finite], values[finite]
    length = -(-len(values) // _MAX_POINTS)
    runs = [slice(start, start + length) for start in range(0, len(values), length)]
    return (
        np.array([steps[run].mean() for run in runs]),
        np.array([values[run].mean() for run in runs]),
        np.array([values[run].min() for run in runs]),
        np.array([values[run].max() for run in runs]),
    )


@dataclass(frozen=True)
class _Axes:
    """Ranges of a chart and their place in its viewBox, 360 wide."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def path(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        return " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in zip(xs, ys, strict=True))

    def drawn(self, x_label: str, y_label: str) -> list[str]:
        """Grid lines, ticks and labels."""
        base = _HEIGHT - _BOTTOM
        parts = [f'<g font-family="system-ui, sans-serif" font-size="11" fill="{_INK}">']
        for tick in nice_ticks(self.y_low, self.y_high):
            y = self.y(tick)
            parts.append(
                f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                f'stroke="{_GRID}"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
                f"{_tick_label(tick)}</text>"
            )
        for tick in nice_ticks(self.x_low, self.x_high):
            x = self.x(tick)
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}" '
                f'stroke="{_INK}"/><text x="{x:.1f}" y="{base + 16}" text-anchor="middle">'
                f"{_tick_label(tick)}</text>"
            )
        return [
            *parts,
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}" stroke="{_INK}"/>',
            f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 6}" '
            f'text-anchor="middle">{html.escape(x_label)}</text>',
            f'<text transform="translate(13 {(_TOP + base) / 2:.0f}) rotate(-90)" '
            f'text-anchor="middle">{html.escape(y_label)}</text>',
            "</g>",
        ]


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range of values with a margin, so that nothing lies on the edge."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = 0.1 * abs(low) or 1.0
    else:
        margin = 0.06 * (high - low)
    return low - margin, high + margin


def _opened(name: str, height: float) -> list[str]:
    """The beginning of an `<svg>` with its name for readers who cannot see it."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="{html.escape(name)}">',
        f"<title>{html.escape(name)}</title>",
    ]


def line_chart(curve: Curve) -> str:
    """Draws a curve; long logs are averaged over runs of steps, with their range as a band.

    Args:
        curve: at least one value must be finite.

    Returns:
        An `<svg>` element, well-formed XML.
    """
    steps, mean, lowest, highest = _thin(curve)
    y_low, y_high = _widened(float(lowest.min()), float(highest.max()))
    axes = _Axes(0.0, max(float(steps[-1]), 1.0), y_low, y_high)
    last = next(value for value in reversed(curve.values) if math.isfinite(value))
    name = f"{curve.stage}: {curve.tag} over the steps, last value {last:.4g}"
    parts = _opened(name, _HEIGHT) + axes.drawn("step", curve.tag)
    if len(steps) == 1:
        x, y = axes.x(steps[0]), axes.y(mean[0])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_LINE}"/>')
    else:
        band = axes.path(
            np.concatenate([steps, steps[::-1]]), np.concatenate([highest, lowest[::-1]])
        )
        parts += [
            f'<polygon points="{band}" fill="{_LINE}" fill-opacity="0.18"/>',
            f'<polyline points="{axes.path(steps, mean)}" fill="none" stroke="{_LINE}" '
            'stroke-width="1.6" stroke-linejoin="round"/>',
        ]
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class RatioLine:
    """One method's scores over the hole's share of the picture.

    Attributes:
        label: its name.
        percents: hole sizes [%], increasing.
        values: one score per size; None is a gap in the line.
        published: drawn dashed and grey, with hollow markers: the paper's.
    """

    label: str
    percents: tuple[float, ...]
    values: tuple[float | None, ...]
    published: bool = False


def ratio_chart(heading: str, lines: Sequence[RatioLine]) -> str:
    """Draws scores over the hole's size, with a legend below, as in Figure 7.

    Lines differ in colour (safe for colour-blind readers), in marker and, from the eighth on, in
    the pairing of both, so the chart also reads in grey.

    Args:
        heading: label of the vertical axis.
        lines: at least one value of one line must be given.

    Returns:
        An `<svg>` element, well-formed XML; every marker has a title with its numbers.
    """
    values = [value for line in lines for value in line.values if value is not None]
    axes = _Axes(0.0, 60.0, *_widened(min(values), max(values)))
    columns = 2 if max(len(line.label) for line in lines) <= _SHORT_LABEL else 1
    height = _HEIGHT + _LEGEND_LINE * -(-len(lines) // columns) + 8
    names = ", ".join(line.label for line in lines)
    parts = _opened(f"{heading} over the size of the hole: {names}", height)
    parts += axes.drawn("hole, % of the picture", heading)
    styles = _styles(lines)
    # Ours last, so that they lie above the paper's.
    for line, style in sorted(
        zip(lines, styles, strict=True), key=lambda pair: not pair[0].published
    ):
        parts.append(_ratio_line(axes, line, style))
    parts.append(f'<g font-family="system-ui, sans-serif" font-size="11" fill="{_INK}">')
    for index, (line, style) in enumerate(zip(lines, styles, strict=True)):
        x = 8 + index % columns * _WIDTH / columns
        y = _HEIGHT + 10 + index // columns * _LEGEND_LINE
        parts.append(
            f'<line x1="{x:.0f}" x2="{x + 26:.0f}" y1="{y}" y2="{y}" {style.stroke}/>'
            f'{style.marker_at(x + 13, y)}<text x="{x + 32:.0f}" y="{y + 4}">'
            f"{html.escape(line.label)}</text>"
        )
    return "".join([*parts, "</g></svg>"])


@dataclass(frozen=True)
class _Style:
    """How a line of `ratio_chart` looks."""

    stroke: str
    marker: str
    fill: str
    colour: str

    def marker_at(self, x: float, y: float, title: str = "") -> str:
        inner = f"<title>{html.escape(title)}</title>" if title else ""
        return (
            f'<path d="{self.marker}" transform="translate({x:.1f} {y:.1f})" fill="{self.fill}" '
            f'stroke="{self.colour}" stroke-width="1.2">{inner}</path>'
        )


def _styles(lines: Sequence[RatioLine]) -> list[_Style]:
    """The look of each line: ours in colour and filled, the paper's grey, dashed and hollow."""
    styles, count = [], {True: 0, False: 0}
    for line in lines:
        place = count[line.published]
        count[line.published] += 1
        turn, place = divmod(place, len(_COLOURS))
        marker = _MARKERS[(place + turn) % len(_MARKERS)]
        colour = _PAPER if line.published else _COLOURS[place]
        stroke = f'stroke="{colour}" stroke-width="1.6"'
        if line.published:
            stroke = f'stroke="{colour}" stroke-width="1.1" stroke-dasharray="4 3"'
        styles.append(_Style(stroke, marker, "#fff" if line.published else colour, colour))
    return styles


def _ratio_line(axes: _Axes, line: RatioLine, style: _Style) -> str:
    """One method's line with its markers; a value that is missing breaks it."""
    runs: list[list[tuple[float, float]]] = [[]]
    for percent, value in zip(line.percents, line.values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((percent, value))
    parts = [
        f'<polyline points="{axes.path(*zip(*run, strict=True))}" fill="none" {style.stroke}/>'
        for run in runs
        if len(run) > 1
    ]
    for run in runs:
        for percent, value in run:
            title = f"{line.label}, hole of {percent:.1f} %: {value:.4g}"
            parts.append(style.marker_at(axes.x(percent), axes.y(value), title))
    return "".join(parts)


def beside(charts: Sequence[str], width: int = _WIDTH) -> str:
    """Puts charts of `ratio_chart` side by side in one `<svg>`, for a file of its own."""
    height = max(int(_VIEW_BOX.findall(chart)[0]) for chart in charts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * len(charts)} {height}" '
        f'width="{width * len(charts) * 2}" height="{height * 2}">',
        f'<rect width="{width * len(charts)}" height="{height}" fill="#fff"/>',
    ]
    for index, chart in enumerate(charts):
        own = _VIEW_BOX.findall(chart)[0]
        place = f'<svg x="{index * width}" width="{width}" height="{own}" '
        parts.append(chart.replace("<svg ", place, 1))
    return "".join([*parts, "</svg>"])
