"""Lines of text in a picture, as engines note them: checked, in the order of reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_curation.pipeline.record import Record
from pangu_rl.data.fields.bad_row import BadRow

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels or points, y downwards."""


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    box: Box


def noted_lines(record: Record, operator: str) -> list[Line]:
    """What `operator` noted as `found`; lines without text are left out.

    Raises:
        BadRow: it noted nothing, or something that is no line.
    """
    if (noted := record.notes.get(operator)) is None:
        raise BadRow(f"curation.{operator} is missing: name an operator that reads the picture before this one")
    try:
        lines = [Line(str(one["text"]), box_of(one["box"])) for one in noted["found"]]
    except (KeyError, TypeError, ValueError) as problem:
        raise BadRow(f"curation.{operator}.found: {problem}: each needs a text and a box of four numbers") from None
    return [line for line in lines if line.text.strip()]


def box_of(numbers: Sequence[float]) -> Box:
    x1, y1, x2, y2 = map(float, numbers)
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"box {list(numbers)} has no area")
    return x1, y1, x2, y2


def in_reading_order(lines: Sequence[Line]) -> list[list[Line]]:
    """Rows of lines from above, each from the left: what shares half of its height with a row's first stands in it."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda one: (one.box[1] + one.box[3], one.box[0])):
        if rows and _shared(rows[-1][0].box, line.box) > 0.5:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [sorted(row, key=lambda one: one.box[0]) for row in rows]


def as_text(lines: Sequence[Line]) -> str:
    return "\n".join(" ".join(line.text for line in row) for row in in_reading_order(lines))


def _shared(one: Box, other: Box) -> float:
    """Of the height of the lower of both."""
    return (min(one[3], other[3]) - max(one[1], other[1])) / min(one[3] - one[1], other[3] - other[1])
