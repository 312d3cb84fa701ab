"""Line charts by matplotlib: a run's log over the steps, and scores over the hole's size.

matplotlib is imported where something is drawn, so that reading a log stays light.
"""

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_WIDTH, _HEIGHT, _LEGEND_LINE = 5.0, 3.05, 0.19  # of a chart and of a line of its legend [inch]
_MAX_POINTS = 240
_NOT_CURVES = ("step", "images", "seconds")
_SHORT_LABEL = 25  # characters that fit half of a chart's width
_INK, _PAPER = "#50575c", "#767d82"
# Okabe and Ito's colours without yellow, which is too pale on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_MARKERS = "os^Dvx+"
_LOOK: dict[Any, Any] = {
    "axes.edgecolor": _INK,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": _INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.sans-serif": ["DejaVu Sans"],
    "grid.color": "#e3e6e8",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "svg.hashsalt": "gmsrm-jax",  # equal charts are equal bytes
    "text.color": _INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": _INK,
    "ytick.color": _INK,
    "ytick.left": False,
}


class Chart(NamedTuple):
    """An SVG file's text, and what a reader who cannot see it is told."""

    svg: str
    alt: str


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

    @property
    def missing(self) -> int:
        """How many values are not finite."""
        return len(self.values) - int(np.isfinite(self.values).sum())


@dataclass(frozen=True)
class Line:
    """One line of several in a chart.

    Attributes:
        label: its name in the legend.
        x: places, increasing, such as hole sizes [%].
        y: one value for each; None is a gap in the line.
        published: drawn dashed and grey, with hollow markers: the paper's.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    published: bool = False


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


def line_chart(curve: Curve) -> Chart:
    """Draws a curve of which at least one value is finite.

    Of a long log at most 240 means of equal runs of steps are drawn, with their range as a band.
    """
    values = np.array(curve.values)
    finite = np.isfinite(values)
    steps, values = np.array(curve.steps, float)[finite], values[finite]
    starts = np.arange(0, len(values), -(-len(values) // _MAX_POINTS))
    counts = np.diff(starts, append=len(values))
    places, means = (np.add.reduceat(x, starts) / counts for x in (steps, values))
    lowest, highest = (f.reduceat(values, starts) for f in (np.minimum, np.maximum))
    with drawing(_WIDTH, _HEIGHT) as figure:
        axes = figure.subplots()
        axes.set(xlabel="step", ylabel=curve.tag, xlim=(0.0, max(float(places[-1]), 1.0)))
        marker = "o" if len(places) == 1 else ""
        axes.plot(places, means, color=_COLOURS[0], marker=marker, gid="line", clip_on=False)
        if (lowest < highest).any():
            colour = _COLOURS[0]
            axes.fill_between(
                places, lowest, highest, color=colour, alpha=0.18, linewidth=0, gid="band"
            )
        name = f"{curve.stage}: {curve.tag} over the steps, last value {values[-1]:.4g}"
        return Chart(_svg(figure), name)


def ratio_chart(panels: Mapping[str, Sequence[Line]]) -> Chart:
    """Draws scores over the hole's size as in Figure 7: panels side by side, one legend below.

    Lines differ in colour (safe for colour-blind readers), in marker and, from the eighth on, in
    the pairing of both, so the chart also reads in grey.

    Args:
        panels: label of a vertical axis to its lines, whose x is the hole's share [%]; all panels
            have lines of the same labels in the same order, and one value at least.
    """
    labels = [line.label for line in next(iter(panels.values()))]
    columns = len(panels) * (2 if max(map(len, labels)) <= _SHORT_LABEL else 1)
    height = _HEIGHT + _LEGEND_LINE * -(-len(labels) // columns)
    with drawing(_WIDTH * len(panels), height) as figure:
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (heading, lines) in zip(grid, panels.items(), strict=True):
            axes.set(xlabel="hole, % of the picture", ylabel=heading, xlim=(0.0, 60.0))
            handles = draw_lines(axes, lines)
        figure.legend(handles, labels, loc="outside lower left", ncols=columns)
        name = f"{', '.join(panels)} over the size of the hole: {', '.join(labels)}"
        return Chart(_svg(figure), name)


def draw_lines(axes: "Axes", lines: Sequence[Line]) -> list["Line2D"]:
    """Draws each line: ours in colour and filled, the paper's grey, dashed and hollow below."""
    handles: list[Line2D] = []
    count = {True: 0, False: 0}
    for line in lines:
        turn, place = divmod(count[line.published], len(_COLOURS))
        count[line.published] += 1
        (handle,) = axes.plot(
            line.x,
            [math.nan if value is None else value for value in line.y],
            color=_PAPER if line.published else _COLOURS[place],
            linestyle=(0, (4, 3)) if line.published else "-",
            linewidth=1.1 if line.published else 1.6,
            marker=_MARKERS[(place + turn) % len(_MARKERS)],
            markerfacecolor="white" if line.published else None,
            gid=f"line-{len(handles)}",
            zorder=2 if line.published else 3,
        )
        handles.append(handle)
    return handles


@contextmanager
def drawing(width: float, height: float, dpi: float = 72) -> Iterator["Figure"]:
    """A figure of that size [inch] in the pages' look; what is drawn with it is drawn inside."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_LOOK), warnings.catch_warnings():
        # A browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        yield Figure((width, height), dpi=dpi)


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Creator": None, "Date": None})
    return text.getvalue()
