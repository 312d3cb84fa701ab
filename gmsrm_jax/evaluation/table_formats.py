"""How a table of scores reads as text, Markdown, LaTeX and HTML."""

import html
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from gmsrm_jax.evaluation.tables import Table

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

_ROWS_OF_A_FLOAT = 52  # that fit a page at \scriptsize; a longer table is divided by LaTeX
_FEW_COLUMNS = 8
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "{}$&#%_"}
    | {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # after the \\ of a row it would begin that command's argument
        "*": "{*}",
        "×": r"$\times$",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        "→": r"$\to$",
        "↓": r"$\downarrow$",
    }
)
_MARKDOWN = re.compile(r"([\\`*_{}\[<>#|~])")


def to_text(table: Table) -> str:
    """Caption, aligned columns and notes for a terminal; a star stands behind the best.

    The metrics are blocks.
    """
    grid = table.grid() + table.grid("best").replace({True: "*", False: " "}).astype(str)
    grid = grid.droplevel(0, axis="columns").rename(columns=lambda name: f"{name} ")
    blocks = {"": grid}
    if grid.index.nlevels > 1:
        blocks = {name: own.droplevel(0) for name, own in grid.groupby(level=0, sort=False)}
    texts = []
    for heading, block in blocks.items():
        lines = block.rename_axis(None).rename_axis(heading, axis="columns").to_string()
        texts.append("\n".join(line.rstrip() for line in lines.splitlines()))
    head = f"{table.title}. {table.scores['data_set'].iloc[0]}. {table.caption}"
    return "\n\n".join([head.replace("bold:", "*"), *texts, "\n".join(table.notes)])


def to_markdown(table: Table) -> str:
    """A heading, the caption, a pipe table, the notes and the command, with a final newline.

    A metric's name stands in the first of its rows.
    """
    grid = table.grid().map(_md)
    grid = grid.mask(table.grid("best"), "**" + grid + "**")
    frame = grid.set_axis([_md(head) for _, head in grid.columns], axis="columns").reset_index()
    if "Metric" in frame:
        frame["Metric"] = frame["Metric"].mask(frame["Metric"].duplicated(), "")
    for name in grid.index.names:
        frame[name] = frame[name].map(_md)
    left = frame.columns.isin([*grid.index.names, "Type"])
    lines = [frame.columns, ["---" if stub else "---:" for stub in left], *frame.to_numpy()]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    data_set = _md(table.scores["data_set"].iloc[0])
    notes = "".join(f"\n- {_md(note)}" for note in table.notes)
    if table.command:
        notes += f"\n\nTo repeat it:\n\n```bash\n{table.command}\n```"
    return f"### {table.title}\n\n{data_set}. {_md(table.caption)}\n\n{rows}\n{notes}\n"


def to_latex(table: Table) -> str:
    r"""A `table*` for any class, without packages; the command is a comment.

    What is longer than a page is a `longtable`, which needs that package and one column of text.
    Characters outside Latin alphabets, as a method's name may have them, need XeLaTeX or LuaLaTeX.
    """
    grid, best = table.grid(), table.grid("best")
    styler = _styled(table, _tex)
    bold = best.replace({True: "textbf:--rwrap;", False: ""}).to_numpy()
    styler.apply(lambda _: bold, axis=None)
    rules = ("toprule", "midrule", "bottomrule")
    styler.set_table_styles([{"selector": rule, "props": ":hline"} for rule in rules])
    long = len(grid) > _ROWS_OF_A_FLOAT
    caption, label = _tex(table.caption), f"tab:{table.name.replace('_', '-')}"
    typed = ("", "Type") in grid.columns
    tabular = styler.to_latex(
        **({"environment": "longtable", "caption": caption, "label": label} if long else {}),
        column_format="l" * (grid.index.nlevels + typed) + "r" * (grid.shape[1] - typed),
        multicol_align="c",
        multirow_align="naive",
        clines="skip-last;data",
    )
    gap = 3 if grid.shape[1] <= _FEW_COLUMNS else 1.5
    look = f"\\scriptsize\n\\setlength{{\\tabcolsep}}{{{gap}pt}}"
    notes = "".join(f"{_tex(note)}\\par\n" for note in table.notes)
    lines = [f"% {line}" for line in ("To repeat it:", *table.command.splitlines())]
    command = "\n".join(lines) + "\n" if table.command else ""
    if long:
        return f"{command}% \\usepackage{{longtable}}\n{{\n{look}\n{tabular}\\noindent\n{notes}}}\n"
    return (
        f"{command}\\begin{{table*}}[tp]\n\\centering\n\\caption{{{caption}}}\n\\label{{{label}}}\n"
        f"\\smallskip\n{look}\n{tabular}\\par\\smallskip\n\\raggedright\n{notes}\\end{{table*}}\n"
    )


def to_html(table: Table) -> str:
    """The `<table>`, without notes and command; the page brings them and the style.

    Cells are of the class "best", or "published" in a row of the paper.
    """
    best, published = table.grid("best"), table.grid("published")
    classes = published.replace({True: "published", False: ""}).mask(best, "best")
    styler = _styled(table, html.escape)
    styler.set_td_classes(classes.set_axis(styler.columns, axis=1).set_axis(styler.index))
    styler.set_caption(f"<b>{html.escape(table.title)}.</b> {html.escape(table.caption)}")
    styler.set_table_attributes('class="layout"').set_uuid(table.name)
    styler.cell_ids = False
    text = styler.to_html()
    return text[text.index("<table") :].strip()  # its style sheet is empty


def _styled(table: Table, escape: Callable[[str], str]) -> "Styler":
    """The printed values and their headings, escaped."""
    # The name above the last column before the values, so that no line of the head is for it.
    grid = table.grid().rename_axis([None, "Method"], axis="columns")
    styler = grid.rename_axis([None] * grid.index.nlevels).style.format(escape)
    return styler.format_index(escape, axis=0).format_index(escape, axis=1)


def _md(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _tex(text: str) -> str:
    return text.translate(_LATEX)
