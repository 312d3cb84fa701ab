"""A table of scores in no particular format, and how it reads as text, Markdown, LaTeX and HTML."""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

# Rows that one LaTeX float can hold at \scriptsize; what is longer goes on in the next one.
_ROWS_OF_A_FLOAT = 52
_FEW_COLUMNS = 8
# Characters, with the gaps between columns, that fit the width of a page there.
_CHARACTERS_OF_A_FLOAT = 115
_GAP = 2
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # after the \\ of a row it would begin that command's argument
    "*": "{*}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"$\dagger$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[<>#|~])")


@dataclass(frozen=True)
class Cell:
    """One printed value; `marked` refers to the notes on the paper's contradictions."""

    text: str
    bold: bool = False
    marked: bool = False


@dataclass(frozen=True)
class Row:
    """One method; `priors` is the paper's column "Type", empty where it does not apply."""

    label: str
    priors: str
    cells: tuple[Cell, ...]
    published: bool = False


@dataclass(frozen=True)
class Group:
    """The rows of one metric; Table IV has one group without a heading."""

    heading: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table in no particular format.

    Attributes:
        name: file name without ending, such as "table_1".
        title: what it is called, such as "Table I".
        caption: one or two sentences.
        spans: data sets and the number of columns below each.
        columns: headings of the columns of values.
        priors: whether the column "Type" is shown.
        groups: rows by metric.
        notes: lines below the table.
        command: what to type to make it again; empty if that is not said.
    """

    name: str
    title: str
    caption: str
    spans: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    priors: bool
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    command: str = ""

    def only(self, keep: Callable[[str], bool]) -> "Table":
        """The table with only those groups whose first metric is kept."""
        return replace(self, groups=tuple(g for g in self.groups if keep(g.metrics[0])))


def to_text(table: Table) -> str:
    """Caption, aligned columns and notes for a terminal; a star stands behind what is bold.

    For a table of one data set; headings of groups are left out.
    """
    lines = [[*_stub(table, False), *(f"{column} " for column in table.columns)]]
    for row in (row for group in table.groups for row in group.rows):
        cells = [cell.text + ("*" if cell.bold else " ") for cell in row.cells]
        lines.append([row.label, *[row.priors] * table.priors, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = 1 + table.priors
    rows = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in lines
    ]
    head = f"{table.title}. {table.spans[0][0]}. {table.caption}"
    return "\n".join([head, "", *rows, "", *table.notes])


def to_markdown(table: Table) -> str:
    """A heading, the caption, a pipe table, the notes and the command, with a final newline.

    A metric's name stands in the first of its rows; with several data sets their names are part of
    the column headings.
    """
    several = len(table.spans) > 1
    names = [f"{span} " if several else "" for span, count in table.spans for _ in range(count)]
    columns = [f"{name}{column}" for name, column in zip(names, table.columns, strict=True)]
    grouped = any(group.heading for group in table.groups)
    stub = _stub(table, grouped)
    lines = [
        _pipes([_md(text) for text in (*stub, *columns)]),
        _pipes(["---"] * len(stub) + ["---:"] * len(columns)),
    ]
    for group in table.groups:
        for index, row in enumerate(group.rows):
            cells = [f"**{cell.text}**" if cell.bold else _marked(cell, " †") for cell in row.cells]
            lines.append(_pipes([_md(text) for text in _stub_cells(table, group, index)] + cells))
    data_set = "" if several else f"{_md(table.spans[0][0])}. "
    notes = "".join(f"\n- {_md(note)}" for note in table.notes)
    if table.command:
        notes += f"\n\nTo repeat it:\n\n```bash\n{table.command}\n```"
    rows = "\n".join(lines)
    return f"### {table.title}\n\n{data_set}{_md(table.caption)}\n\n{rows}\n{notes}\n"


def to_latex(table: Table) -> str:
    r"""One or more `table*` floats, for any class, without packages; the command is a comment.

    Characters outside Latin alphabets, as a method's name may have them, need XeLaTeX or LuaLaTeX.
    """
    grouped = any(group.heading for group in table.groups)
    parts = [
        replace(part, groups=groups) for part in _pages(table) for groups in _floats(part.groups)
    ]
    floats = [_float(part, number, grouped) for number, part in enumerate(parts, start=1)]
    if table.command:
        commented = "\n% ".join(table.command.splitlines())
        floats.insert(0, f"% To repeat it:\n% {commented}")
    return "\n".join(floats)


def to_html(table: Table) -> str:
    """The `<table>`, without notes and command; the page brings them and the style."""
    grouped = any(group.heading for group in table.groups)
    width = len(table.columns) + table.priors
    stub = '<th scope="col" rowspan="2">Method</th>'
    if table.priors:
        stub += '<th scope="col" rowspan="2" class="priors">Type</th>'
    spans = "".join(
        f'<th scope="colgroup" colspan="{count}">{html.escape(name)}</th>'
        for name, count in table.spans
    )
    columns = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    body = ""
    for group in table.groups:
        if grouped:
            body += (
                f'<tbody><tr class="group"><th scope="rowgroup">{html.escape(group.heading)}</th>'
                f'<td colspan="{width}"></td></tr>'
            )
        else:
            body += "<tbody>"
        body += "".join(_html_row(table, row) for row in group.rows) + "</tbody>"
    caption = f"<b>{html.escape(table.title)}.</b> {html.escape(table.caption)}"
    return (
        f'<table class="layout"><caption>{caption}</caption>'
        f"<thead><tr>{stub}{spans}</tr><tr>{columns}</tr></thead>{body}</table>"
    )


def _stub(table: Table, grouped: bool) -> list[str]:
    """Headings of the columns before the values."""
    return ["Metric"] * grouped + ["Method"] + ["Type"] * table.priors


def _stub_cells(table: Table, group: Group, index: int) -> list[str]:
    """What stands before the values of a row."""
    row = group.rows[index]
    metric = [group.heading if index == 0 else ""] if group.heading else []
    return metric + [row.label] + [row.priors] * table.priors


def _marked(cell: Cell, mark: str) -> str:
    return cell.text + mark if cell.marked else cell.text


def _md(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _floats(groups: Sequence[Group]) -> list[tuple[Group, ...]]:
    """Neighbouring groups as long as their rows fit one float; a group is never divided."""
    parts: list[list[Group]] = [[]]
    for group in groups:
        rows = sum(len(other.rows) for other in parts[-1])
        if parts[-1] and rows + len(group.rows) > _ROWS_OF_A_FLOAT:
            parts.append([])
        parts[-1].append(group)
    return [tuple(part) for part in parts]


def _pages(table: Table) -> list[Table]:
    """Neighbouring columns as long as they fit the width of one float.

    Columns of several data sets are not divided: they hold single scores, which are short.
    """
    if len(table.spans) > 1:
        return [table]
    rows = [row for group in table.groups for row in group.rows]
    label = max((len(row.label) for row in rows), default=0)
    starts, used = [0], label
    for place, heading in enumerate(table.columns):
        width = _GAP + max([len(heading), *(len(row.cells[place].text) for row in rows)])
        if used + width > _CHARACTERS_OF_A_FLOAT and place:
            starts.append(place)
            used = label
        used += width
    return [
        _only_columns(table, slice(start, stop))
        for start, stop in zip(starts, [*starts[1:], len(table.columns)], strict=True)
    ]


def _only_columns(table: Table, part: slice) -> Table:
    columns = table.columns[part]
    groups = [
        replace(group, rows=tuple(replace(row, cells=row.cells[part]) for row in group.rows))
        for group in table.groups
    ]
    spans = ((table.spans[0][0], len(columns)),)
    return replace(table, spans=spans, columns=columns, groups=tuple(groups))


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _tex_line(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _float(table: Table, number: int, grouped: bool) -> str:
    stub = _stub(table, grouped)
    spans = [f"\\multicolumn{{{count}}}{{c}}{{{_tex(name)}}}" for name, count in table.spans]
    lines = [
        "    \\hline",
        _tex_line([""] * len(stub) + spans),
        _tex_line([_tex(name) for name in (*stub, *table.columns)]),
        "    \\hline",
    ]
    for group in table.groups:
        for index, row in enumerate(group.rows):
            if index and group.rows[index - 1].published and not row.published:
                lines.append(f"    \\cline{{{1 + grouped}-{len(stub) + len(table.columns)}}}")
            values = [
                f"\\textbf{{{text}}}" if cell.bold else text + "\\rlap{$^\\dagger$}" * cell.marked
                for cell, text in ((cell, _tex(cell.text)) for cell in row.cells)
            ]
            lines.append(
                _tex_line([_tex(text) for text in _stub_cells(table, group, index)] + values)
            )
        lines.append("    \\hline")
    gap = 3 if len(table.columns) <= _FEW_COLUMNS else 1.5
    more = " (continued)" if number > 1 else ""
    suffix = f"-{number}" if number > 1 else ""
    label = table.name.replace("_", "-") + suffix
    notes = "".join(f"  {_tex(note)}\\par\n" for note in table.notes if number == 1)
    rows = "\n".join(lines)
    return (
        "\\begin{table*}[tp]\n"
        "  \\centering\n"
        f"  \\caption{{{_tex(table.caption)}{more}}}\n"
        f"  \\label{{tab:{label}}}\n"
        "  \\smallskip\n"
        "  \\scriptsize\n"
        f"  \\setlength{{\\tabcolsep}}{{{gap}pt}}\n"
        f"  \\begin{{tabular}}{{{'l' * len(stub)}{'r' * len(table.columns)}}}\n"
        f"{rows}\n"
        "  \\end{tabular}\n"
        "  \\par\\smallskip\n"
        "  \\raggedright\n"
        f"{notes}"
        "\\end{table*}\n"
    )


def _html_row(table: Table, row: Row) -> str:
    priors = f'<td class="priors">{html.escape(row.priors)}</td>' if table.priors else ""
    cells = ""
    for cell in row.cells:
        text = f"<b>{cell.text}</b>" if cell.bold else _marked(cell, "<sup>†</sup>")
        cells += f"<td>{text}</td>"
    kind = ' class="published"' if row.published else ""
    return f'<tr{kind}><th scope="row">{html.escape(row.label)}</th>{priors}{cells}</tr>'
