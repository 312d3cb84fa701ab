"""A line chart as a picture, for the figures of a model card."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gmsrm_jax.report.charts import nice_ticks

# In pixels; a chart is drawn larger and reduced, for smooth lines.
_WIDTH, _HEIGHT, _FINER = 720, 420, 3
_LABEL, _GAP, _RIGHT, _TOP, _BOTTOM = 38, 8, 20, 44, 56
_FONT_SIZE, _LINE_WIDTH, _DOT = 15, 2, 4
_MARGIN = 0.06  # of what the values span, above and, where the axis does not begin at 0, below
_INK, _GRID = "#50575c", "#e3e6e8"
# Okabe and Ito's, safe for colour-blind readers.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


@dataclass(frozen=True)
class Line:
    """Values over the pictures seen, at least one.

    Attributes:
        label: for the legend.
        thousands: pictures seen [10³], increasing.
        values: one for each.
    """

    label: str
    thousands: tuple[float, ...]
    values: tuple[float, ...]


def line_chart(
    lines: Sequence[Line], x_label: str, y_label: str, from_zero: bool = True
) -> np.ndarray:
    """Draws values over thousands of pictures, with a legend above.

    Args:
        lines: what is drawn, at least one.
        x_label: below the chart.
        y_label: left of it, to be read from below.
        from_zero: whether the vertical axis begins at 0, for values that are never negative.

    Returns:
        uint8 [420, 720, 3].
    """
    canvas = Image.new("RGB", (_WIDTH * _FINER, _HEIGHT * _FINER), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT_SIZE * _FINER)
    values = [value for line in lines for value in line.values]
    x_high = 1.03 * max(line.thousands[-1] for line in lines)
    low, high = 0.0 if from_zero else min(values), max(values)
    margin = _MARGIN * ((high - low) or abs(high) or 1.0)
    y_low, y_high = low if from_zero else low - margin, high + margin
    ticks = {tick: f"{tick:.4g}" for tick in nice_ticks(y_low, y_high)}
    widest = max(font.getlength(text) for text in ticks.values()) / _FINER
    left, right, base = _LABEL + widest + _GAP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return (x * _FINER, y * _FINER)

    def place(thousands: float, value: float) -> tuple[float, float]:
        x = left + thousands / x_high * (right - left)
        return at(x, base - (value - y_low) / (y_high - y_low) * (base - _TOP))

    thin, thick = _FINER, _LINE_WIDTH * _FINER
    for tick, text in ticks.items():
        y = place(0.0, tick)[1] / _FINER
        draw.line([at(left, y), at(right, y)], _GRID, thin)
        draw.text(at(left - _GAP, y), text, _INK, font, anchor="rm")
    for tick in nice_ticks(0.0, x_high):
        x = place(tick, y_low)[0] / _FINER
        draw.line([at(x, base), at(x, base + 5)], _INK, thin)
        draw.text(at(x, base + 8), f"{tick:.4g}", _INK, font, anchor="ma")
    draw.line([at(left, base), at(right, base)], _INK, thin)
    draw.text(at((left + right) / 2, _HEIGHT - 8), x_label, _INK, font, anchor="md")
    _draw_upwards(canvas, y_label, font, at(8, (_TOP + base) / 2))
    legend = float(left)
    for line, colour in zip(lines, itertools.cycle(_COLOURS), strict=False):
        points = [place(*point) for point in zip(line.thousands, line.values, strict=True)]
        draw.line(points, colour, thick, joint="curve")
        sample = [at(legend, _TOP / 2), at(legend + 28, _TOP / 2)]
        draw.line(sample, colour, thick)
        for x, y in [*points, at(legend + 14, _TOP / 2)]:
            draw.circle((x, y), _DOT * _FINER, colour)
        draw.text(at(legend + 36, _TOP / 2), line.label, _INK, font, anchor="lm")
        legend += 36 + font.getlength(line.label) / _FINER + 28
    return np.asarray(canvas.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS))


def _draw_upwards(canvas: Image.Image, text: str, font: Any, middle: tuple[float, float]) -> None:
    """Writes a text that is read from below; `middle` is that of its left edge."""
    length, height = round(font.getlength(text)), _FONT_SIZE * _FINER * 3 // 2
    line = Image.new("RGB", (length, height), "white")
    ImageDraw.Draw(line).text((0, 0), text, _INK, font)
    turned = line.transpose(Image.Transpose.ROTATE_90)
    canvas.paste(turned, (round(middle[0]), round(middle[1] - length / 2)))
