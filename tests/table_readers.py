"""Reads tables back from Markdown, LaTeX and HTML, and checks their form on the way."""

import re

from html_page import Page

from gmsrm_jax.evaluation.table_formats import to_html, to_latex, to_markdown

FORMATS = ("markdown", "latex", "html")


def read_markdown(text):
    """(header cells, rows of cells) of the pipe table; escapes undone, bold kept."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    rows = [[re.sub(r"\\([\\`*_{}\[<>#|~])", r"\1", c.strip()) for c in row] for row in rows]
    assert len({len(row) for row in rows}) == 1
    assert all(set(cell) <= set("-:") for cell in rows[1])
    return rows[0], rows[2:]


def read_latex(text):
    """(rows of the head, other rows), each of cells; checks columns, braces and environments."""
    stripped = re.sub(r"\\[\\{}&%$#_]", "", text)
    assert stripped.count("{") == stripped.count("}")
    assert stripped.count("$") % 2 == 0
    for name in ("table*", "tabular", "longtable"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}")
    pattern = r"\\begin\{(tabular|longtable)\}\{([lr]+)\}\n(.*?)\n\\end\{\1\}"
    ((_, columns, body),) = re.findall(pattern, text, re.DOTALL)
    if "\\endlastfoot" in body:
        head = body.split("\\endfirsthead")[0].split("\\\\\n", 1)[1]  # without the caption
        body = f"{head}{body.split(chr(92) + 'endlastfoot')[1]}"
    found = []
    for line in body.splitlines():
        content = line.strip()
        if not content or content == "\\hline" or content.startswith("\\cline"):
            continue
        assert content.endswith(" \\\\"), content
        cells = re.split(r"(?<!\\)&", content[:-3])
        spans = [re.search(r"\\multicolumn\{(\d+)\}", cell) for cell in cells]
        assert sum(int(span[1]) if span else 1 for span in spans) == len(columns)
        assert not content.startswith(("[", "*"))
        found.append([cell.strip() for cell in cells])
    return found[:2], found[2:]


def read_html(text):
    """(rows of the head, other rows) of the only table, each of cells that fill its width."""
    page = Page(text)
    assert len(page.tables) == 1
    return html_rows(page.tables[0])


def html_rows(table):
    """The same of a table of a page; a cell that spans rows is repeated without its text."""
    rows, width = table["rows"], sum(cell["span"] for cell in table["rows"][0])
    left, pending = 0, None
    filled = []
    for row in rows:
        if row[0]["rows"] > 1:
            left, pending = row[0]["rows"], {**row[0], "text": ""}
        elif left:
            row = [pending, *row]
        left = max(0, left - 1)
        assert sum(cell["span"] for cell in row) == width
        filled.append(row)
    return filled[:2], filled[2:]


def plain(cell):
    """A LaTeX or Markdown cell as (number as text, bold)."""
    bold = re.fullmatch(r"\\textbf\{(.*)\}|\*\*(.*)\*\*", cell)
    return ((bold[1] or bold[2]) if bold else cell).strip(), bold is not None


def shown_rows(table, kind):
    """All rows of one format as [(text, bold)], with what stands before the values."""
    if kind == "markdown":
        return [[plain(cell) for cell in row] for row in read_markdown(to_markdown(table))[1]]
    if kind == "latex":
        return [[plain(cell) for cell in row] for row in read_latex(to_latex(table))[1]]
    return [[(c["text"], c["bold"]) for c in row] for row in read_html(to_html(table))[1]]


def value_rows(table, kind):
    """The same without what stands before the values."""
    stub = 1 + bool(table.scores["metric"].any()) + bool(table.scores["type"].any())
    return [row[stub:] for row in shown_rows(table, kind)]


def texts(table, heading=None):
    """Method to the texts of its row, of one metric or of a table without groups."""
    grid = table.grid().drop(columns=[("", "Type")], errors="ignore")
    grid = grid if heading is None else grid.loc[heading]
    return {method: list(row) for method, row in zip(grid.index, grid.to_numpy(), strict=True)}


def best(table, heading):
    """Method to whether each value of its row is the best, of one metric."""
    grid = table.grid("best").drop(columns=[("", "Type")], errors="ignore").loc[heading]
    return {method: list(row) for method, row in zip(grid.index, grid.to_numpy(), strict=True)}


def headings(table):
    """The headings of the groups."""
    return list(dict.fromkeys(table.scores["metric"]))
