"""Line charts by matplotlib: a run's log over the steps, and scores over the hole's size.

matplotlib is imported where something is drawn, so that reading a log stays light.
"""

import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_WIDTH, _HEIGHT, _LEGEND_LINE = 5.0, 3.05, 0.19  # of a chart and of a line of its legend [inch]
_PICTURE = (720, 420)  # of `lines_picture`, width and height [px]
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
    "svg.fonttype": "none",  # text stays text, for search and for readers who hear it
    "text.color": _INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": _INK,
    "ytick.color": _INK,
    "ytick.left": False,
}


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


def line_chart(curve: Curve) -> str:
    """Draws a curve; long logs are averaged over runs of steps, with their range as a band.

    Args:
        curve: at least one value must be finite.

    Returns:
        An `<svg>` element, well-formed XML; equal curves give equal text.
    """
    steps, mean, lowest, highest = _thin(curve)
    last = next(value for value in reversed(curve.values) if math.isfinite(value))
    name = f"{curve.stage}: {curve.tag} over the steps, last value {last:.4g}"
    with _drawing(_WIDTH, _HEIGHT, salt=name) as figure:
        axes = figure.subplots()
        axes.set(xlabel="step", ylabel=curve.tag, xlim=(0.0, max(float(steps[-1]), 1.0)))
        marker = "o" if len(steps) == 1 else ""
        axes.plot(steps, mean, color=_COLOURS[0], marker=marker, gid="line", clip_on=False)
        if (lowest < highest).any():
            axes.fill_between(
                steps, lowest, highest, color=_COLOURS[0], alpha=0.18, linewidth=0, gid="band"
            )
        return _svg(figure, name)


def ratio_chart(panels: Mapping[str, Sequence[Line]]) -> str:
    """Draws scores over the hole's size as in Figure 7: panels side by side, one legend below.

    Lines differ in colour (safe for colour-blind readers), in marker and, from the eighth on, in
    the pairing of both, so the chart also reads in grey.

    Args:
        panels: label of a vertical axis to its lines, whose x is the hole's share [%]; all panels
            have lines of the same labels in the same order, and one value at least.

    Returns:
        An `<svg>` element, well-formed XML; equal panels give equal text.
    """
    labels = [line.label for line in next(iter(panels.values()))]
    columns = len(panels) * (2 if max(map(len, labels)) <= _SHORT_LABEL else 1)
    height = _HEIGHT + _LEGEND_LINE * -(-len(labels) // columns)
    name = f"{', '.join(panels)} over the size of the hole: {', '.join(labels)}"
    with _drawing(_WIDTH * len(panels), height, salt=name) as figure:
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (heading, lines) in zip(grid, panels.items(), strict=True):
            axes.set(xlabel="hole, % of the picture", ylabel=heading, xlim=(0.0, 60.0))
            handles = _draw_lines(axes, lines)
        figure.legend(handles, labels, loc="outside lower left", ncols=columns)
        return _svg(figure, name)


def lines_picture(
    lines: Sequence[Line], x_label: str, y_label: str, from_zero: bool = True
) -> np.ndarray:
    """Draws lines as a picture, with a legend above.

    Args:
        lines: what is drawn, at least one.
        x_label: below the chart; the axis begins at 0.
        y_label: left of it.
        from_zero: whether the vertical axis begins at 0, for values that are never negative.

    Returns:
        uint8 [420, 720, 3].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    width, height = _PICTURE
    dpi = 100
    with _drawing(width / dpi, height / dpi, dpi=dpi) as figure:
        axes = figure.subplots()
        axes.set(xlabel=x_label, ylabel=y_label)
        handles = _draw_lines(axes, lines)
        axes.set_xlim(left=0.0)
        if from_zero:
            axes.set_ylim(bottom=0.0)
        labels = [line.label for line in lines]
        figure.legend(handles, labels, loc="outside upper left", ncols=len(lines))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


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


def _draw_lines(axes: "Axes", lines: Sequence[Line]) -> list["Line2D"]:
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
def _drawing(
    width: float, height: float, dpi: float = 72, salt: str | None = None
) -> Iterator["Figure"]:
    """A figure of that size [inch] in the pages' look; what is drawn with it is drawn inside.

    Args:
        width: of the figure.
        height: of the figure.
        dpi: pixels per inch.
        salt: makes the ids of an SVG file a function of its content and this text.
    """
    import matplotlib
    from matplotlib.figure import Figure

    look: Any = {**_LOOK, "svg.hashsalt": salt}
    with matplotlib.rc_context(look), warnings.catch_warnings():
        # A browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        yield Figure((width, height), dpi=dpi)


def _svg(figure: "Figure", name: str) -> str:
    """The figure as an element that may stand several times in a page, with its name to hear."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    drawn = text.getvalue()[text.getvalue().index("<svg") :]
    # Its style sheet would be the whole page's, and the ids of its groups not the only ones.
    drawn = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", drawn, count=1, flags=re.S)
    drawn = drawn.replace('<g id="', '<g class="')
    head = f'<svg role="img" aria-label="{html.escape(name)}" stroke-linejoin="round" '
    title = f"<title>{html.escape(name)}</title>"
    return re.sub(r"<svg ([^>]*)>", lambda found: f"{head}{found[1]}>{title}", drawn, count=1)
