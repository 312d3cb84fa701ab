"""Lines as a picture, for the figures that show how a training went."""

from collections.abc import Sequence

import numpy as np

from gmsrm_jax.report.charts import Line, draw_lines, drawing

_WIDTH, _HEIGHT, _DPI = 7.2, 4.2, 100  # 720 x 420 px


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

    with drawing(_WIDTH, _HEIGHT, _DPI) as figure:
        axes = figure.subplots()
        axes.set(xlabel=x_label, ylabel=y_label)
        handles = draw_lines(axes, lines)
        axes.set_xlim(left=0.0)
        if from_zero:
            axes.set_ylim(bottom=0.0)
        labels = [line.label for line in lines]
        figure.legend(handles, labels, loc="outside upper left", ncols=len(lines))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
