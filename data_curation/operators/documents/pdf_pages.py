"""A PDF becomes its pages: each a picture with the text that stands in the file (MindVL, section 3.1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pypdfium2
from pydantic import PositiveFloat, PositiveInt

from data_curation.operators._embedded import png_address
from data_curation.operators.documents._lines import Line, as_text
from data_curation.operators.documents._pdf import alone, pdf_lines
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Record, Split, Verdict
from pangu_rl.data.fields.bad_row import Row


@row_operator(cost="cpu", guarded=True)
def pdf_pages(
    record: Record,
    *,
    form: Literal["document", "objects"] = "document",
    pixels_per_point: PositiveFloat = 1.5,
    most_side: PositiveInt = 2016,
    most_pages: PositiveInt = 500,
) -> Verdict:
    """Of a row whose `pdf` is a path under `media_root`. `document` is the page's picture, then its text; `objects`
    makes each line that stands alone an object named by its text, in exact pixels, for `region_tasks` and
    `objects_to_labels`. A page without text (a scan) has its picture alone, for engines of OCR. `page` counts from 1,
    and no picture is longer than `most_side`."""
    if (path := record.row.get("pdf")) is None:
        return None
    try:
        document = pypdfium2.PdfDocument(record.content(path))
    except pypdfium2.PdfiumError as problem:
        return Drop("broken PDF", f"{path}: {problem}")
    try:
        if len(document) > most_pages or not len(document):
            return Drop("too many pages" if len(document) else "no page", f"{path}: {len(document)}")
        kept = {key: value for key, value in record.row.items() if key != "pdf"}
        rows = [kept | made for made in _pages(document, form, pixels_per_point, most_side)]
        return Split(rows, "became its pages")
    except pypdfium2.PdfiumError as problem:
        return Drop("broken PDF", f"{path}: {problem}")
    finally:
        document.close()


def _pages(document: Any, form: str, scale: float, most_side: int) -> Iterator[Row]:
    for number in range(len(document)):
        page = document[number]
        fitting = min(scale, most_side / max(page.get_size()))
        row: Row = {"images": [png_address(page.render(scale=fitting).to_pil().convert("RGB"))], "page": number + 1}
        lines = [line for line in pdf_lines(page) if line.text]
        if lines and form == "document":
            row["document"] = [{"type": "image"}, as_text(lines)]
        elif lines:
            row["objects"] = [_object(line, fitting, page.get_size()) for line in alone(lines)]
        page.close()
        yield row


def _object(line: Line, scale: float, size: tuple[float, float]) -> Row:
    """What reaches over the page's edge is cut there."""
    box = [min(max(0.0, value), size[axis % 2]) * scale for axis, value in enumerate(line.box)]
    return {"name": line.text, "box": [round(value, 1) for value in box]}
