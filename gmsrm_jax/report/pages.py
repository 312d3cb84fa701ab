"""Pages from the templates beside this file, each complete in itself: style and pictures inside.

Jinja2 is imported where a page is made. It escapes every value; a template says where HTML is
meant.
"""

import base64
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from gmsrm_jax.evaluation.table_formats import to_html
from gmsrm_jax.evaluation.tables import Table
from gmsrm_jax.report.charts import line_chart
from gmsrm_jax.runtime.image_grid import to_png

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(template: str, **values: Any) -> bytes:
    """A whole page, UTF-8.

    Args:
        template: a file of the folder templates.
        values: what it shows; one that it names and does not get is an error.
    """
    return _environment().get_template(template).render(values).encode()


@functools.cache
def _environment() -> "Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gmsrm_jax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(png=_png, svg=_svg, chart=line_chart, table=_table)
    return environment


def _png(image: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(to_png(image)).decode()}"


def _svg(text: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def _table(table: Table) -> "Markup":
    from markupsafe import Markup

    return Markup(to_html(table))
