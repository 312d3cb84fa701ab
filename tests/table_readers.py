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
    """Rows of cells of all tabulars; checks columns, braces and environments on the way."""
    stripped = re.sub(r"\\[\\{}&%$#_]", "", text)
    assert stripped.count("{") == stripped.count("}")
    assert stripped.count("$") % 2 == 0
    for name in ("table*", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}")
    found = []
    pattern = r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\n  \\end\{tabular\}"
    for columns, body in re.findall(pattern, text, re.DOTALL):
        for line in body.splitlines():
            content = line.strip()
            if content == "\\hline" or content.startswith("\\cline"):
                continue
            assert content.endswith(" \\\\"), content
            cells = re.split(r"(?<!\\)&", content[:-3])
            spans = [re.search(r"\\multicolumn\{(\d+)\}", cell) for cell in cells]
            assert sum(int(span[1]) if span else 1 for span in spans) == len(columns)
            assert not content.startswith(("[", "*"))
            found.append([cell.strip() for cell in cells])
    return found


def read_html(text):
    """Rows of cells of the only table; checks that they fill its width."""
    page = Page(text)
    assert len(page.tables) == 1
    rows = page.tables[0]["rows"]
    width = sum(cell["span"] for cell in rows[0])
    assert sum(c["span"] for c in rows[1]) == width - sum(c["rows"] == 2 for c in rows[0])
    assert all(sum(cell["span"] for cell in row) == width for row in rows[2:])
    return rows


def plain(cell):
    """A LaTeX or Markdown cell as (number as text, bold, marked)."""
    bold = re.fullmatch(r"\\textbf\{(.*)\}|\*\*(.*)\*\*", cell)
    text = (bold[1] or bold[2]) if bold else cell
    marked = "dagger" in text or "†" in text
    text = text.replace("\\rlap{$^\\dagger$}", "").replace("†", "").strip()
    return text, bold is not None, marked


def value_rows(table, kind):
    """All rows of one format as [(text, bold, marked)], without what stands before the values."""
    stub = 1 + table.priors
    if kind == "markdown":
        _, rows = read_markdown(to_markdown(table))
        rows = [row[stub + 1 :] for row in rows]
    elif kind == "latex":
        rows = [row for row in read_latex(to_latex(table)) if "multicolumn" not in "".join(row)]
        rows = [row[stub + 1 :] for row in rows if "Method" not in row]
    else:
        rows = [row for row in read_html(to_html(table))[2:] if row[1]["span"] == 1]
        return [
            [(c["text"].rstrip("†"), c["bold"], "†" in c["text"]) for c in row[stub:]]
            for row in rows
        ]
    return [[plain(cell) for cell in row] for row in rows]
