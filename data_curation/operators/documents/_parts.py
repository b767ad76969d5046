"""HTML -> **the parts of an interleaved document, in order**: text, tables, formulas, pictures. Nothing is fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Literal

from data_curation.operators.documents._tables import Cell

LEFT_OUT = {"script", "style", "head", "nav", "footer", "aside", "form", "noscript", "template", "svg", "iframe"}
"""What a browser does not show, and what frames a page."""
HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_LINES = {"br", "li", "tr", "dt", "dd"}
_BLOCKS = {"p", "div", "section", "article", "main", "ul", "ol", "hr", "pre", "blockquote", "figure", "dl"}
_BREAKING = {*_BLOCKS, *_LINES, *HEADINGS}
_VOID = {"br", "hr", "img", "input", "meta", "link", "area", "base", "col", "embed", "source", "track", "wbr"}
MOST_SPANNED = 100
MOST_PLACES = 100_000
"""Of a table, from which on spans count as 1: a page may claim any."""
_SPACES = re.compile(r"\s+")


@dataclass(slots=True)
class Part:
    kind: Literal["text", "table", "formula", "picture"]
    text: str
    """Of a picture its address, of a formula on a line of its own its LaTeX without dollars; others stand in text."""
    cells: list[Cell] = field(default_factory=list)


def parts_of_html(html: str) -> list[Part]:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    reader.end_text()
    return reader.parts


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[Part] = []
        self._text: list[str] = []
        self._mark = ""
        """What the next words of a heading or an item begin with."""
        self._skipped = ("", 0)
        """A tag that is left out, and how often it is open."""
        self._preformatted = 0
        self._table: _Table | None = None
        self._math: list[str] | None = None
        """What was said in `math`; MathML's own signs are no LaTeX, its annotation is."""
        self._annotated = self._on_its_own = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if self._skipped[1]:
            self._skipped = (self._skipped[0], self._skipped[1] + (tag == self._skipped[0]))
        elif (tag in LEFT_OUT or "hidden" in given) and tag not in _VOID:
            self._skipped = (tag, 1)
        elif tag == "math":
            self._math, self._on_its_own = [given.get("alttext", "")], given.get("display") == "block"
        elif self._math is not None:
            self._annotated = tag == "annotation" and given.get("encoding") == "application/x-tex"
        elif tag == "img":
            self._picture(given)
        elif self._table is not None:
            self._table.open(tag, given)
        elif tag == "table":
            self.end_text()
            self._table = _Table()
        elif tag in _BREAKING:
            self._block(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._skipped[1]:
            self._skipped = (self._skipped[0], self._skipped[1] - (tag == self._skipped[0]))
        elif tag == "annotation":
            self._annotated = False
        elif tag == "math" and self._math is not None:
            tex, self._math = self._math[-1], None
            self._formula(tex, self._on_its_own)
        elif self._table is not None:
            if self._table.close(tag):
                self.parts.append(Part("table", "", self._table.cells))
                self._table = None
        elif tag in _BREAKING:
            self._block("/" + tag)

    def handle_data(self, data: str) -> None:
        if self._math is not None:
            if self._annotated:
                self._math.append(data)
        elif not self._skipped[1]:
            self._say(data if self._preformatted else _SPACES.sub(" ", data))

    def end_text(self) -> None:
        """What was said so far becomes a part."""
        text = re.sub(r" *\n", "\n", "".join(self._text))
        text = re.sub(r"\n{3,}", "\n\n", text).strip()
        if text:
            self.parts.append(Part("text", text))
        self._text = []

    def _say(self, text: str) -> None:
        if self._table is not None:
            self._table.say(text)
        elif text.strip():
            begins = not self._text or self._text[-1].endswith("\n")
            self._text.append(self._mark + (text.lstrip(" ") if begins else text))
            self._mark = ""
        elif self._text and not self._text[-1].endswith((" ", "\n")):
            self._text.append(text)

    def _block(self, tag: str) -> None:
        name = tag.removeprefix("/")
        if name == "pre":
            self._preformatted += 1 if tag == name else -1
        if name not in _LINES:
            self._text.append("\n\n")
        elif self._text and not self._text[-1].endswith("\n"):
            self._text.append("\n")
        self._mark = "- " if tag == "li" else HEADINGS.get(tag, "")

    def _picture(self, given: dict[str, str]) -> None:
        if "math" in given.get("class", "") and given.get("alt"):
            self._formula(given["alt"], False)
        elif given.get("src") and self._table is None:
            self.end_text()
            self.parts.append(Part("picture", given["src"]))

    def _formula(self, tex: str, on_its_own: bool) -> None:
        tex = _SPACES.sub(" ", tex).strip()
        if tex and on_its_own and self._table is None:
            self.end_text()
            self.parts.append(Part("formula", tex))
        elif tex:
            self._say(f"${tex}$")


class _Table:
    """The cells of a table as they come; a table within one is text of its cell."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self._row, self._within = -1, 0
        self._open: Cell | None = None
        self._text: list[str] = []
        self._taken: set[tuple[int, int]] = set()

    def open(self, tag: str, given: dict[str, str]) -> None:
        self._within += tag == "table"
        if self._within or tag not in ("tr", "td", "th"):
            return
        self._end_cell()
        if tag == "tr":
            self._row += 1
            return
        row = self._row = max(self._row, 0)
        spans = (given.get(name) if len(self._taken) < MOST_PLACES else None for name in ("rowspan", "colspan"))
        rows, columns = map(_span, spans)
        column = next(place for place in range(len(self._taken) + 1) if (row, place) not in self._taken)
        # A span that another one is in the way of ends before it.
        columns = next((n for n in range(1, columns) if (row, column + n) in self._taken), columns)
        self._taken |= {(row + r, column + c) for r in range(rows) for c in range(columns)}
        self._open = Cell(row, column, "", rows, columns, tag == "th")

    def close(self, tag: str) -> bool:
        """Whether the table ends."""
        if self._within:
            self._within -= tag == "table"
            return False
        if tag in ("td", "th", "tr", "table"):
            self._end_cell()
        return tag == "table"

    def say(self, text: str) -> None:
        self._text.append(text)

    def _end_cell(self) -> None:
        if self._open is not None:
            text = " ".join("".join(self._text).split())
            self.cells.append(replace(self._open, text=text))
        self._open, self._text = None, []


def _span(value: str | None) -> int:
    return max(1, min(MOST_SPANNED, int(value[:4]))) if value and value.isdecimal() else 1
