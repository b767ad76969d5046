"""Pages in HTML or Markdown become documents of text and pictures by turns (openPangu-VL, section 3.1).

Tables and formulas stay text, in HTML, Markdown or LaTeX, or become pictures for a share of them.
"""

from __future__ import annotations

import re
from html import escape
from typing import Annotated

from markdown_it import MarkdownIt
from PIL import Image
from pydantic import Field

from data_curation.operators._embedded import png_address
from data_curation.operators.balance._drawn import drawn, drawn_share
from data_curation.operators.documents._drawn_parts import formula_picture, table_picture
from data_curation.operators.documents._parts import Part, parts_of_html
from data_curation.operators.documents._tables import BadTable, Form, completed, written
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Edit, Record, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.data.fields.bad_row import Row

_MATH = re.compile(
    r"(?P<code>```.*?```|~~~.*?~~~|`[^`\n]*`)|\$\$(?P<own>.+?)\$\$|(?<![\\$])\$(?=\S)(?P<within>[^$\n]+?)(?<=\S)\$(?!\d)",
    re.DOTALL,
)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


@row_operator(cost="cpu")
def interleaved(
    record: Record,
    *,
    tables: Annotated[tuple[Form, ...], Field(min_length=1)] = ("html", "markdown", "latex"),
    pictured: Share = 0.0,
    font: str | None = None,
    seed: int = 0,
) -> Verdict:
    """Of a row with `html` or `markdown`. A picture is `media[address]` of the row, or a path under `media_root` where
    its address is one; others are left out, since nothing is fetched. The form of each table is drawn among `tables`,
    and `pictured` of tables and of formulas on lines of their own are drawn as pictures, with the file `font` for
    scripts that DejaVu Sans lacks; what cannot be drawn stays text."""
    if "html" in record.row:
        parts = parts_of_html(record.row["html"])
    elif "markdown" in record.row:
        parts = parts_of_html(html_of(record.row["markdown"]))
    else:
        return None
    document: list[str | Row] = []
    images: list[str] = []
    media = record.row.get("media") or {}
    for number, part in enumerate(parts):
        uid = f"{record.uid} {number}"
        picture = _drawn_picture(part, font) if drawn_share(f"{uid} pictured", seed) < pictured else None
        address = png_address(picture) if picture else _path(part, media)
        if address is not None:
            images.append(address)
            document.append({"type": "image"})
        elif (text := _text(part, tables[drawn(uid, seed) % len(tables)])) is not None:
            if document and isinstance(document[-1], str):
                text = f"{document.pop()}\n\n{text}"
            document.append(text)
    if not any(isinstance(part, str) for part in document):
        return Drop("no text", f"{len(images)} pictures")
    row = {key: value for key, value in record.row.items() if key not in ("html", "markdown", "media")}
    return Edit(row | {"document": document, "images": images}, "became an interleaved document")


def html_of(markdown: str) -> str:
    """With formulas between dollars as `math`, since their underscores are no emphasis."""
    marked = _MATH.sub(_math, markdown)
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(marked)


def _math(found: re.Match[str]) -> str:
    if found["code"]:
        return found["code"]
    display = ' display="block"' if found["own"] else ""
    return f'<math{display} alttext="{escape(" ".join((found["own"] or found["within"]).split()))}"></math>'


def _drawn_picture(part: Part, font: str | None) -> Image.Image | None:
    if part.kind == "formula":
        return formula_picture(part.text)
    return table_picture(completed(part.cells), font) if part.kind == "table" else None


def _path(part: Part, media: dict[str, str]) -> str | None:
    if part.kind != "picture":
        return None
    return media.get(part.text) or (None if _ADDRESS.match(part.text) else part.text)


def _text(part: Part, form: Form) -> str | None:
    """None of a part that leaves nothing to read."""
    if part.kind == "table":
        try:
            return written(completed(part.cells), form) if part.cells else None
        except BadTable:  # spans that run into each other: their words at least
            return " ".join(cell.text for cell in part.cells)
    if part.kind == "formula":
        return f"$${part.text}$$"
    return part.text if part.kind == "text" else None
