"""The clu edge of the loop's logging: TensorBoard files and the parameter table."""

import pathlib
from typing import Any

from clu import metric_writers, parameter_overview


def create_writer(folder: pathlib.Path) -> metric_writers.MetricWriter:
    """A writer of TensorBoard scalars and images that works in the background."""
    return metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))


def parameter_table(params: Any) -> str:
    """The clu table of names, shapes and sizes, with the total."""
    return parameter_overview.get_parameter_overview(params, include_stats=False)
