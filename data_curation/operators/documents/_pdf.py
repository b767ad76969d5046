"""A page of a PDF -> **its lines of text, with their exact places**, which stand in the file itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from data_curation.operators.documents._lines import Box, Line


def pdf_lines(page: Any) -> Iterator[Line]:
    """A pypdfium2 page's runs of text joined into lines, from the top; boxes in points from its upper left corner."""
    text_page, height = page.get_textpage(), page.get_height()
    runs = [text_page.get_rect(index) for index in range(text_page.count_rects())]
    lines: list[list[float]] = []
    for left, bottom, right, top in runs:
        last = lines[-1] if lines else None
        if last and min(top, last[3]) - max(bottom, last[1]) > 0.5 * (min(top - bottom, last[3] - last[1])):
            lines[-1] = [min(left, last[0]), min(bottom, last[1]), max(right, last[2]), max(top, last[3])]
        else:
            lines.append([left, bottom, right, top])
    for left, bottom, right, top in lines:
        text = " ".join(text_page.get_text_bounded(left, bottom, right, top).split())
        yield Line(text, (left, height - top, right, height - bottom))


def alone(lines: Iterable[Line]) -> list[Line]:
    """The lines with nothing beside them: between columns of a table, the text of one cell may reach into another."""
    found = list(lines)
    return [
        line for line in found if not any(other is not line and _side_by_side(line.box, other.box) for other in found)
    ]


def _side_by_side(one: Box, other: Box) -> bool:
    return min(one[3], other[3]) - max(one[1], other[1]) > 0.3 * min(one[3] - one[1], other[3] - other[1])
