"""One self-contained HTML file about a run: scores, pictures, curves, definitions, config."""

import base64
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmsrm_jax.configuration import flatten
from gmsrm_jax.evaluation.examples import Examples
from gmsrm_jax.evaluation.tables import best_rows, column, format_value, heading
from gmsrm_jax.files import write_atomically
from gmsrm_jax.metrics import DEFINITIONS
from gmsrm_jax.panels import mask_picture, to_png
from gmsrm_jax.report.charts import Curve, line_chart

_SHOWN_FIRST = ("loss", "validation")
_HOLE_GREY = 127
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: #fff;
  color: #1c2124; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { margin: 0 0 1rem; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid #d5dadd;
  font-size: 1.25rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
p { max-width: 46rem; margin: .5rem 0; }
.note { color: #50575c; font-size: .9rem; }
.wide { overflow-x: auto; margin: .5rem 0 1.25rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { padding: .25rem 0; text-align: left; font-weight: 600; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e3e6e8; }
th { font-weight: 500; }
thead th { border-bottom: 1px solid #50575c; color: #50575c; }
tbody th { position: sticky; left: 0; background: #fff; text-align: left; }
.scores { min-width: 44rem; }
.scores thead th:first-child { text-align: left; }
.facts th { color: #50575c; white-space: normal; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td b { font-weight: 700; }
.panels th, .panels td { padding: .15rem; border: 0; text-align: center; font-size: .85rem; }
.panels tbody th { min-width: clamp(5.5rem, 12vw, 9rem); padding-right: .5rem; text-align: left;
  line-height: 1.3; white-space: normal; overflow-wrap: anywhere; }
.panels tbody th span { display: block; color: #50575c; font-weight: 400; }
.panels thead th { max-width: 8rem; white-space: normal; vertical-align: bottom; }
.panels thead th:first-child { text-align: left; }
.panels img { display: block; width: clamp(5.5rem, 11vw, 8.2rem); height: auto; }
.pixels { image-rendering: pixelated; }
figure { margin: 0 0 1rem; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .3rem; color: #50575c; font-size: .9rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr));
  gap: .5rem 1.5rem; }
.charts figure { margin: 0; }
.charts svg { display: block; width: 100%; height: auto; }
pre { overflow-x: auto; padding: .8rem 1rem; background: #f4f6f7; border-radius: 4px;
  font: .85rem/1.45 ui-monospace, SFMono-Regular, Menlo, monospace; }
summary { cursor: pointer; color: #1f5f8b; }
dt { font-weight: 600; }
dd { margin: 0 0 .6rem; max-width: 46rem; }
"""


@dataclass(frozen=True)
class Picture:
    """One picture of the report: what it is called above or below it, and its alternative text.

    Attributes:
        label: column heading or caption.
        image: uint8 [H, W, 3].
        alt: what a reader who cannot see it is told.
    """

    label: str
    image: np.ndarray
    alt: str


@dataclass(frozen=True)
class PanelRow:
    """Pictures that belong side by side; the rows of a report all have the same labels.

    Attributes:
        label: what the row shows, such as the ratio bin.
        detail: a smaller line below, such as the hole's share and the file name.
        pictures: from left to right.
    """

    label: str
    detail: str
    pictures: tuple[Picture, ...]


def panel_rows(examples: Examples, raw_of: str) -> list[PanelRow]:
    """Rows input | mask | composites | raw output | other composites | truth.

    Args:
        examples: from an evaluation.
        raw_of: the method whose raw output is shown too, next to its composite.

    Raises:
        ValueError: `raw_of` is not among the examples' methods.
    """
    if raw_of not in examples.methods:
        raise ValueError(f"method {raw_of!r} is not one of {examples.methods}")
    rows = []
    for index, (name, bin_name) in enumerate(zip(examples.pictures, examples.bins, strict=True)):
        truth, mask = examples.truth[index], examples.mask[index]
        cells = [
            ("input", np.where(mask > 0, np.uint8(_HOLE_GREY), truth)),
            ("mask", mask_picture(mask)),
        ]
        for position, method in enumerate(examples.methods):
            cells.append((method, examples.composite[position, index]))
            if method == raw_of:
                cells.append((f"{method}, raw output", examples.raw[position, index]))
        cells.append(("truth", truth))
        pictures = tuple(
            Picture(label, image, f"{label}: {name}, hole {bin_name}") for label, image in cells
        )
        detail = f"{examples.ratios[index]:.1%} of {name}"
        rows.append(PanelRow(bin_name, detail, pictures))
    return rows


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    command: str,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
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
        panels: rows of filled pictures, see `panel_rows`.
        curves: logged quantities of the stages, see `curves_from_log`.
        figures: pictures by themselves, such as samples of the memory.
        config: every field of the run; nested mappings are shown with dotted names.
    """
    parts = [f"<h1>{_text(title)}</h1>", _facts_table(facts)]
    if metrics is not None:
        parts += _scores(metrics)
    if panels:
        parts += ["<h2>Filled pictures</h2>", _panel_table(panels)]
    for figure in figures:
        parts += [f"<h2>{_text(figure.label)}</h2>", f"<figure>{_image(figure)}</figure>"]
    parts += _curve_sections(curves)
    if metrics is not None:
        parts += _definitions(metrics)
    parts += ["<h2>How to repeat it</h2>", f"<pre>{_text(command)}</pre>"]
    if config is not None:
        table = _facts_table(flatten(config))
        parts.append(f"<details><summary>Every field of the config</summary>{table}</details>")
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    write_atomically(path, page.encode())


def _text(value: object) -> str:
    return html.escape(str(value))


def _facts_table(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f'<div class="wide"><table class="facts"><tbody>{rows}</tbody></table></div>'


def _score_table(metrics: Mapping[str, Any], metric: str, kind: str) -> str:
    """One metric: methods as rows, ratio bins as columns."""
    bins = list(metrics["mask_list"]["bins"])
    columns = [column(metrics, metric, name, kind) for name in bins]
    best = [best_rows(metric, values) for values in columns]
    body = ""
    for row, method in enumerate(metrics["methods"]):
        cells = ""
        for values, winners in zip(columns, best, strict=True):
            shown = format_value(metric, values[row])
            cells += f"<td><b>{shown}</b></td>" if row in winners else f"<td>{shown}</td>"
        body += f'<tr><th scope="row">{_text(method)}</th>{cells}</tr>'
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in bins)
    return (
        f'<div class="wide"><table class="scores"><caption>{_text(heading(metric))}</caption>'
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
                    label = DEFINITIONS[metric].label
                    lines.append(
                        f"{label} of {method}, {bin_name}: undefined for {score['undefined']} "
                        f"pictures, mean of the other {score['count']}."
                    )
    return [f'<p class="note">{_text(line)}</p>' for line in lines]


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    mask_list = metrics["mask_list"]
    parts = [
        "<h2>Scores</h2>",
        f"<p>Means over {metrics['pictures']} pictures at {metrics['image_size']} px, each with "
        f"one hole of every size. The best value of a column is bold. Masks: "
        f"{_text(mask_list['source'])}.</p>",
    ]
    for kind, meaning in metrics["images"].items():
        tables = [_score_table(metrics, metric, kind) for metric in DEFINITIONS]
        tables += _undefined(metrics, kind)
        if kind == "composite":
            parts += [f'<p class="note">Scored: {_text(meaning)}.</p>', *tables]
        else:
            parts.append(
                f"<details><summary>The same for: {_text(meaning)}</summary>"
                + "".join(tables)
                + "</details>"
            )
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
