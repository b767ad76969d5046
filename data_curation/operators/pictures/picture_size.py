"""Pictures that are too small, or so long and thin that nothing is left of them at the size a model reads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Keep, Record, Verdict


@row_operator(cost="cpu")
def picture_size(
    record: Record,
    *,
    least_side: PositiveInt = 28,
    least_pixels: PositiveInt = 784,
    most_aspect: Annotated[float, Field(ge=1.0)] = 20.0,
) -> Verdict:
    """By the header alone; 28 pixels are one visual token of the papers' models, and `most_aspect` is the longer side
    over the shorter one."""
    values: dict[str, float] = {}
    for path in record.images:
        width, height = record.header(path).size
        aspect = max(width, height) / min(width, height)
        values = {"side": min(width, height), "aspect": aspect}
        said = f"{path}: {width} x {height}"
        if min(width, height) < least_side or width * height < least_pixels:
            return Drop("too small", said, values)
        if aspect > most_aspect:
            return Drop("extreme aspect ratio", said, values)
    return Keep(values=values)
