"""Line charts as inline SVG, drawn from the lines of a run's log."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 14, 10, 40
_MAX_POINTS = 240
_NOT_CURVES = ("step", "images", "seconds")
_LINE = "#1f5f8b"
_GRID = "#e3e6e8"
_INK = "#50575c"


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


def line_chart(curve: Curve) -> str:
    """Draws a curve; long logs are averaged over runs of steps, with their range as a band.

    Args:
        curve: at least one value must be finite.

    Returns:
        An `<svg>` element, well-formed XML.
    """
    steps, mean, lowest, highest = _thin(curve)
    x_low, x_high = 0.0, max(float(steps[-1]), 1.0)
    y_low, y_high = float(lowest.min()), float(highest.max())
    if y_high - y_low <= 1e-9 * max(abs(y_low), abs(y_high)):
        margin = 0.1 * abs(y_low) or 1.0
    else:
        margin = 0.06 * (y_high - y_low)
    y_low, y_high = y_low - margin, y_high + margin

    def x(value: float) -> float:
        return _LEFT + (value - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    def path(xs: np.ndarray, ys: np.ndarray) -> str:
        return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))

    last = next(value for value in reversed(curve.values) if math.isfinite(value))
    name = f"{curve.stage}: {curve.tag} over the steps, last value {last:.4g}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(name)}">',
        f"<title>{html.escape(name)}</title>",
        f'<g font-family="system-ui, sans-serif" font-size="11" fill="{_INK}">',
    ]
    for tick in nice_ticks(y_low, y_high):
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
            f'stroke="{_GRID}"/><text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">'
            f"{_tick_label(tick)}</text>"
        )
    base = _HEIGHT - _BOTTOM
    for tick in nice_ticks(x_low, x_high):
        parts.append(
            f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{base}" y2="{base + 4}" '
            f'stroke="{_INK}"/><text x="{x(tick):.1f}" y="{base + 16}" text-anchor="middle">'
            f"{_tick_label(tick)}</text>"
        )
    parts += [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}" stroke="{_INK}"/>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">'
        "step</text>",
        f'<text transform="translate(13 {(_TOP + base) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(curve.tag)}</text>',
        "</g>",
    ]
    if len(steps) == 1:
        parts.append(f'<circle cx="{x(steps[0]):.1f}" cy="{y(mean[0]):.1f}" r="3" fill="{_LINE}"/>')
    else:
        band = path(np.concatenate([steps, steps[::-1]]), np.concatenate([highest, lowest[::-1]]))
        parts += [
            f'<polygon points="{band}" fill="{_LINE}" fill-opacity="0.18"/>',
            f'<polyline points="{path(steps, mean)}" fill="none" stroke="{_LINE}" '
            'stroke-width="1.6" stroke-linejoin="round"/>',
        ]
    return "".join([*parts, "</svg>"])
