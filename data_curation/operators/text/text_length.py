"""Texts that are too short or too long to learn from."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Keep, Part, Record, Verdict


@row_operator(cost="cpu")
def text_length(
    record: Record, *, least: NonNegativeInt = 1, most: PositiveInt | None = None, part: Part = "all"
) -> Verdict:
    """Characters, without white space at both ends, from `least` to `most`."""
    chars = len(record.text(part).strip())
    values = {"chars": chars}
    if chars < least:
        return Drop("too short", f"{chars} characters, the least is {least}", values)
    if most is not None and chars > most:
        return Drop("too long", f"{chars} characters, the most is {most}", values)
    return Keep(values=values)
