"""One self-contained HTML file about a run: scores, pictures, curves, definitions, config."""

import base64
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gmsrm_jax.config.fields import flatten
from gmsrm_jax.evaluation import published
from gmsrm_jax.evaluation.paper_tables import full_table
from gmsrm_jax.evaluation.table_formats import Group, Table, to_html
from gmsrm_jax.report.charts import Curve, line_chart
from gmsrm_jax.report.paper_report import PaperOutputs
from gmsrm_jax.report.pictures import Figure, PanelRow, Picture, panel_rows
from gmsrm_jax.report.style import page
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.image_grid import to_png

__all__ = ["PanelRow", "Picture", "panel_rows", "write_report"]

_SHOWN_FIRST = ("loss", "validation")


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    command: str,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    paper: PaperOutputs | None = None,
    panels: Sequence[PanelRow] = (),
    curves: Sequence[Curve] = (),
    figures: Sequence[Picture] = (),
    config: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report; parts that are not given are left out.

    Args:
        path: the HTML file.
        title: heading.
        command: what to type to do it again.
        facts: what a reader wants to know first, such as devices, steps and time; name to value.
        metrics: an evaluation's metrics, see `evaluate`.
        paper: tables and figures in the paper's layout, see `paper_report.write_outputs`; with
            them, the scores of every hole size are folded.
        panels: rows of filled pictures, see `panel_rows`.
        curves: logged quantities of the stages, see `curves_from_log`.
        figures: pictures by themselves, such as samples of the memory.
        config: every field of the run; nested mappings are shown with dotted names.
    """
    parts = [f"<h1>{_text(title)}</h1>", _facts_table(facts)]
    if paper is not None:
        parts += _paper_tables(paper) + _paper_charts(paper)
        for figure in paper.figures:
            parts += _paper_figure(figure)
    if metrics is not None:
        parts += _scores(metrics, folded=paper is not None)
    if panels:
        parts += ["<h2>Filled pictures</h2>", _panel_table(panels)]
    for picture in figures:
        parts += [f"<h2>{_text(picture.label)}</h2>", f"<figure>{_image(picture)}</figure>"]
    parts += _curve_sections(curves)
    if metrics is not None:
        parts += _definitions(metrics)
    parts += ["<h2>How to repeat it</h2>", f"<pre>{_text(command)}</pre>"]
    if config is not None:
        table = _facts_table(flatten(config))
        parts.append(f"<details><summary>Every field of the config</summary>{table}</details>")
    write_atomically(path, page(title, "\n".join(parts)).encode())


def _text(value: object) -> str:
    return html.escape(str(value))


def _facts_table(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f'<div class="wide"><table class="facts"><tbody>{rows}</tbody></table></div>'


def _score_table(table: Table, group: Group) -> str:
    """One metric: methods as rows, ratio bins as columns."""
    body = ""
    for row in group.rows:
        cells = "".join(
            f"<td><b>{cell.text}</b></td>" if cell.bold else f"<td>{cell.text}</td>"
            for cell in row.cells
        )
        body += f'<tr><th scope="row">{_text(row.label)}</th>{cells}</tr>'
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in table.columns)
    return (
        f'<div class="wide"><table class="scores"><caption>{_text(group.heading)}</caption>'
        f'<thead><tr><th scope="col">hole</th>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _undefined(metrics: Mapping[str, Any], kind: str) -> list[str]:
    """Says where scores are undefined and therefore left out of a mean."""
    lines = []
    for method, kinds in metrics["methods"].items():
        for bin_name, scores in kinds[kind].items():
            for metric, score in scores.items():
                if score["undefined"]:
                    label = metrics["definitions"][metric]["label"]
                    lines.append(
                        f"{label} of {method}, {bin_name}: undefined for {score['undefined']} "
                        f"pictures, mean of the other {score['count']}."
                    )
    return [f'<p class="note">{_text(line)}</p>' for line in lines]


def _paper_tables(paper: PaperOutputs) -> list[str]:
    """The tables with the paper's metrics; what else was scored is folded below each."""
    parts = ["<h2>Scores as in the paper</h2>"] if paper.tables else []
    for table in paper.tables:
        more = table.only(lambda metric: metric not in published.METRICS)
        folded = ""
        if more.groups:
            inner = to_html(replace(more, notes=()))
            folded = f"<details><summary>Further metrics</summary>{inner}</details>"
        parts.append(to_html(table.only(lambda metric: metric in published.METRICS), folded))
    return parts


def _paper_charts(paper: PaperOutputs) -> list[str]:
    if not paper.charts:
        return []
    charts = "".join(f"<figure>{chart}</figure>" for chart in paper.charts)
    note = f'<p class="note">{_text(paper.chart_note)}</p>' if paper.chart_note else ""
    title = "<h2>Scores over the size of the hole (the paper's Figure 7)</h2>"
    return [title, f'<div class="charts pair">{charts}</div>{note}']


def _paper_figure(figure: Figure) -> list[str]:
    """Each row's pictures in a grid that breaks on narrow screens; every picture has its label."""
    parts = [f"<h2>{_text(figure.title)}</h2>"]
    for row in figure.rows:
        cells = "".join(
            f"<figure>{_image(picture)}<figcaption>{_text(picture.label)}</figcaption></figure>"
            for picture in row.pictures
        )
        parts.append(
            f'<p class="note"><b>{_text(row.label)}</b> {_text(row.detail)}</p>'
            f'<div class="beside" style="--columns: {len(row.pictures)}">{cells}</div>'
        )
    return parts


def _scores(metrics: Mapping[str, Any], folded: bool) -> list[str]:
    mask_list = metrics["mask_list"]
    parts = [
        "<h2>Scores</h2>",
        f"<p>Means over {metrics['pictures']} pictures at {metrics['image_size']} px, each with "
        f"one hole of every size. The best value of a column is bold. Masks: "
        f"{_text(mask_list['source'])}.</p>",
    ]
    for kind, meaning in metrics["images"].items():
        table = full_table({"": metrics}, kind)
        tables = [_score_table(table, group) for group in table.groups]
        tables += _undefined(metrics, kind)
        if kind == "composite":
            parts.append(f'<p class="note">Scored: {_text(meaning)}.</p>')
        if kind == "composite" and not folded:
            parts += tables
        else:
            summary = "Every hole size" if kind == "composite" else f"The same for: {meaning}"
            parts.append(f"<details><summary>{_text(summary)}</summary>{''.join(tables)}</details>")
    return parts


def _image(picture: Picture) -> str:
    data = base64.b64encode(to_png(picture.image)).decode()
    height, width = picture.image.shape[:2]
    pixels = ' class="pixels"' if max(height, width) <= 128 else ""
    return (
        f'<img{pixels} src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{_text(picture.alt)}">'
    )


def _panel_table(rows: Sequence[PanelRow]) -> str:
    head = "".join(f'<th scope="col">{_text(picture.label)}</th>' for picture in rows[0].pictures)
    body = ""
    for row in rows:
        cells = "".join(f"<td>{_image(picture)}</td>" for picture in row.pictures)
        label = f"{_text(row.label)}<span>{_text(row.detail)}</span>"
        body += f'<tr><th scope="row">{label}</th>{cells}</tr>'
    return (
        f'<div class="wide"><table class="panels"><thead><tr><th scope="col">hole</th>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _chart(curve: Curve) -> str:
    missing = len(curve.values) - int(np.isfinite(curve.values).sum())
    note = f"{missing} of {len(curve.values)} values are not finite and left out"
    caption = f"<figcaption>{note}</figcaption>" if missing else ""
    return f"<figure>{line_chart(curve)}{caption}</figure>"


def _curve_sections(curves: Sequence[Curve]) -> list[str]:
    """Charts by stage and tag group; losses and validation scores in view, the rest folded."""
    parts = []
    drawable = [curve for curve in curves if np.isfinite(curve.values).any()]
    for stage in dict.fromkeys(curve.stage for curve in drawable):
        own = [curve for curve in drawable if curve.stage == stage]
        parts.append(f"<h2>{_text(stage)}</h2>")
        folded = ""
        groups = dict.fromkeys(curve.group for curve in own)
        for group in sorted(groups, key=lambda name: (name not in _SHOWN_FIRST, name)):
            charts = "".join(_chart(curve) for curve in own if curve.group == group)
            section = f'<h3>{_text(group)}</h3><div class="charts">{charts}</div>'
            if group in _SHOWN_FIRST:
                parts.append(section)
            else:
                folded += section
        if folded:
            parts.append(f"<details><summary>More curves</summary>{folded}</details>")
    return parts


def _definitions(metrics: Mapping[str, Any]) -> list[str]:
    items = "".join(
        f"<dt>{_text(item['label'])} ({_text(item['better'])} is better)</dt>"
        f"<dd>{_text(item['text'])}</dd>"
        for item in metrics["definitions"].values()
    )
    mask_list = metrics["mask_list"]
    ratios = {
        "mask list": mask_list["source"],
        "SHA-256 of the list": mask_list["sha256"],
        "seed": mask_list["seed"],
        **{
            f"{name}: mean hole": f"{item['mean_ratio']:.1%} of the picture, {item['count']} masks"
            for name, item in mask_list["bins"].items()
        },
    }
    return [
        "<h2>What the scores mean</h2>",
        f"<dl>{items}</dl>",
        f"<details><summary>The masks</summary>{_facts_table(ratios)}</details>",
    ]
