"""A picture of a table becomes HTML (MindVL, section 3.1.3).

Its structure is from one model and its content from an engine of OCR: each line of text goes to the cell that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from data_curation.operators.documents._lines import Box, Line, as_text, box_of, noted_lines
from data_curation.operators.documents._tables import BadTable, Cell, written
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Edit, Record, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.data.fields.bad_row import BadRow


@row_operator(cost="cpu")
def table_html(
    record: Record,
    *,
    structure: str = "read_pictures",
    content: str = "read_pictures~2",
    least_inside: Share = 0.5,
    most_outside: Share = 0.0,
    ask: str = "Convert the table in the image to HTML.",
) -> Verdict:
    """Of rows for which `structure` noted cells, each with `box`, `row` and `column` from 0, and `row_span`,
    `column_span` and `header` where they apply; `content` noted lines. A line belongs to the cell that holds most of
    it, and at least `least_inside` of its area. Dropped are tables whose cells overlap or leave a place free, and those
    with more than `most_outside` of their lines in no cell."""
    if structure not in record.notes:
        return None
    cells = _cells(record, structure)
    lines = noted_lines(record, content)
    texts, outside = placed(cells, lines, least_inside)
    values = {"outside": outside / len(lines) if lines else 0.0}
    if not lines or values["outside"] > most_outside:
        return Drop("text outside of its cells", f"{outside} of {len(lines)} lines", values)
    filled = [replace(cell, text=as_text(own).replace("\n", " ")) for (cell, _), own in zip(cells, texts, strict=True)]
    try:
        said = written(filled, "html")
    except BadTable as problem:
        return Drop("cells are no table", str(problem), values)
    turns = [{"role": "user", "content": ask}, {"role": "assistant", "content": said}]
    return Edit(record.row | {"messages": turns}, "table became HTML")


def placed(
    cells: Sequence[tuple[Cell, Box]], lines: Sequence[Line], least_inside: float
) -> tuple[list[list[Line]], int]:
    """The lines of each cell, and how many are in none."""
    found: list[list[Line]] = [[] for _ in cells]
    outside = 0
    for line in lines:
        shares = [_inside(line.box, box) for _, box in cells]
        best = max(range(len(cells)), key=shares.__getitem__, default=None)
        if best is None or shares[best] < least_inside:
            outside += 1
        else:
            found[best].append(line)
    return found, outside


def _cells(record: Record, operator: str) -> list[tuple[Cell, Box]]:
    try:
        return [
            (
                Cell(
                    row=int(one["row"]),
                    column=int(one["column"]),
                    rows=int(one.get("row_span", 1)),
                    columns=int(one.get("column_span", 1)),
                    header=bool(one.get("header", False)),
                ),
                box_of(one["box"]),
            )
            for one in record.notes[operator]["found"]
        ]
    except (KeyError, TypeError, ValueError) as problem:
        raise BadRow(f"curation.{operator}.found: {problem}: each cell needs box, row and column") from None


def _inside(line: Box, cell: Box) -> float:
    """Share of the line's area."""
    width = max(0.0, min(line[2], cell[2]) - max(line[0], cell[0]))
    height = max(0.0, min(line[3], cell[3]) - max(line[1], cell[1]))
    return width * height / ((line[2] - line[0]) * (line[3] - line[1]))
