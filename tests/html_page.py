"""Reads a page back: its elements, its tables, and whether its tags match."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects elements, their attributes, and the text of tables; checks that tags match.

    A cell is {"text", "bold", "span", "rows"}; a row of a table is a list of cells.
    """

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.tables, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append({"caption": "", "rows": [], "class": attributes.get("class")})
        elif tag == "tr":
            self.tables[-1]["rows"].append([])
        elif tag in ("td", "th"):
            span = int(attributes.get("colspan", 1))
            rows = int(attributes.get("rowspan", 1))
            best = "best" in attributes.get("class", "").split()
            cell = {"text": "", "bold": best, "span": span, "rows": rows}
            self.tables[-1]["rows"][-1].append(cell)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "caption" in self.open:
            self.tables[-1]["caption"] += data
        elif "td" in self.open or "th" in self.open:
            self.tables[-1]["rows"][-1][-1]["text"] += data
