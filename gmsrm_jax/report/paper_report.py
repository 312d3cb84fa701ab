"""A run's scores and pictures as the paper shows them: Tables I, II and IV, Figures 6 to 10."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gmsrm_jax.data.masks.bins import RATIO_BINS, bin_name
from gmsrm_jax.evaluation import published
from gmsrm_jax.evaluation.examples import Examples
from gmsrm_jax.evaluation.paper_tables import (
    UNNAMED,
    ablation_table,
    centre_table,
    full_table,
    irregular_table,
    samples_table,
)
from gmsrm_jax.evaluation.table_formats import to_latex, to_markdown
from gmsrm_jax.evaluation.tables import Table, heading
from gmsrm_jax.metrics import DEFINITIONS
from gmsrm_jax.report.charts import Chart, Line, ratio_chart
from gmsrm_jax.report.pages import render
from gmsrm_jax.report.pictures import Figure, ablation, comparison, not_filled
from gmsrm_jax.runtime.files import write_atomically
from gmsrm_jax.runtime.image_grid import to_png

FIGURE_7_METRICS = ("psnr", "ssim")
_FIGURES = {"CelebA-HQ256": "figure_8", "Places2": "figure_9"}
# Every file that an evaluation may have written.
_FILES = (
    *(
        f"{name}{ending}"
        for name in ("table_1", "table_2", "table_4", "table_samples", "table_all")
        for ending in (".md", ".tex", ".html")
    ),
    *(f"figures/figure_{name}" for name in ("6.png", "7.svg", "8.png", "9.png", "10.png")),
)


@dataclass(frozen=True)
class PaperOutputs:
    """What `write_report` shows of them.

    Attributes:
        tables: Tables I, II, IV and that of several samples, those that there are scores for.
        charts: Figure 7's, PSNR and SSIM; empty without irregular holes.
        chart_note: where the paper's points in them come from; empty if there are none.
        figures: methods side by side.
    """

    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    chart_note: str
    figures: tuple[Figure, ...]


def write_outputs(
    folder: Path,
    metrics: Mapping[str, Any],
    examples: Examples,
    dataset: str | None,
    *,
    pictures: Sequence[str] = (),
    seed: int = 0,
    notes: Sequence[str] = (),
) -> PaperOutputs:
    """Writes the tables and figures of one evaluation.

    The files are table_1, table_2 and table_all (and table_4 if two variants were scored,
    table_samples if several samples of each hole were), each as .md, .tex and .html; then
    figures/figure_7.svg, figures/figure_6.png (figure_8 for CelebA-HQ256, figure_9 for Places2, as
    in the paper) and, with two variants, figures/figure_10.png.

    Args:
        folder: where to write.
        metrics: the content of metrics.json.
        examples: what the same evaluation kept.
        dataset: the tables' name for the test set; one of `published.DATA_SETS`' values brings the
            paper's rows. None is "Test pictures".
        pictures: names of the examples to show, in order; without any they are drawn.
        seed: of the draw.
        notes: further lines below each table.

    Returns:
        The parts for `write_report`.

    Raises:
        UserError: a picture is not among the examples.
    """
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    label = dataset or UNNAMED
    made = (*_paper_tables(label, metrics), full_table(label, metrics))
    *tables, whole = (replace(table, notes=(*table.notes, *notes)) for table in made)
    write_tables(folder, [*tables, whole])
    panels, note = figure_7(metrics, label)
    if panels:
        write_atomically(folder / "figures/figure_7.svg", ratio_chart(panels).svg.encode())
    charts = tuple(ratio_chart({heading: lines}) for heading, lines in panels.items())
    drawn = (
        comparison(_FIGURES.get(label, "figure_6"), examples, pictures, seed, not_filled(metrics)),
        ablation(examples, pictures, seed),
    )
    figures = tuple(figure for figure in drawn if figure is not None)
    for figure in figures:
        write_atomically(folder / f"figures/{figure.name}.png", to_png(figure.sheet()))
    return PaperOutputs(tuple(tables), charts, note, figures)


def _paper_tables(label: str, metrics: Mapping[str, Any]) -> Iterator[Table]:
    """Tables I, II, IV and that of several samples, those that there are scores for."""
    bins = set(metrics["mask_list"]["bins"])
    if bins & set(published.IRREGULAR_BINS):
        yield irregular_table(label, metrics)
    if bins & set(published.CENTRE_BINS):
        yield centre_table(label, metrics)
    if published.ABLATION_BIN in bins and len(metrics["methods"].keys() & published.VARIANTS) > 1:
        yield ablation_table(label, metrics)
    if "samples" in metrics:
        yield samples_table(label, metrics)


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Writes each table as NAME.md, NAME.tex and NAME.html, the last a page by itself."""
    for table in tables:
        path = folder / table.name
        write_atomically(path.with_suffix(".md"), to_markdown(table).encode())
        write_atomically(path.with_suffix(".tex"), to_latex(table).encode())
        page = render("table.html", title=table.title, table=table)
        write_atomically(path.with_suffix(".html"), page)


def figure_7(metrics: Mapping[str, Any], dataset: str) -> tuple[dict[str, list[Line]], str]:
    """PSNR and SSIM over the size of irregular holes, one line per method.

    Our points stand at the mean hole size of each bin. The paper's numbers behind its Figure 7 are
    those of its Table I; they are drawn at the middle of each bin.

    Returns:
        What `ratio_chart` draws, a panel for each metric, and a note on the paper's points; nothing
        if no irregular hole was scored.
    """
    middles = {bin_name(index): 50.0 * sum(ends) for index, ends in enumerate(RATIO_BINS)}
    sizes = {
        name: 100.0 * facts["mean_ratio"]
        for name, facts in metrics["mask_list"]["bins"].items()
        if name in middles
    }
    paper = dataset in published.DATA_SETS.values()
    panels = {}
    for metric in FIGURE_7_METRICS:
        lines = []
        for method, kinds in metrics["methods"].items():
            means = tuple(kinds["composite"][name][metric]["mean"] for name in sizes)
            lines.append(Line(method, tuple(sizes.values()), means))
        for method in published.FIGURE_7_METHODS if paper else ():
            cells = {
                name: (dataset, "I", method, metric, name) for name in published.IRREGULAR_BINS
            }
            percents = tuple(middles[name] for name in cells)
            scores = tuple(published.PUBLISHED[cell] for cell in cells.values())
            lines.append(Line(f"{method} (paper)", percents, scores, True))
        if any(value is not None for line in lines if not line.published for value in line.y):
            panels[heading(DEFINITIONS[metric])] = lines
    note = "Dashed and grey: the paper's, from its Table I, drawn at the middle of each bin."
    return panels, note if paper and panels else ""
