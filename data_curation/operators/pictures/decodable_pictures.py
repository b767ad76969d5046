"""Rows with a picture that is missing, broken, a bomb, animated, or no picture: by the decoder that trains on them."""

from __future__ import annotations

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Record, Verdict
from pangu_rl.errors import DataError


@row_operator(cost="cpu")
def decodable_pictures(record: Record) -> Verdict:
    """Every picture is decoded whole (docs/data.md: sizes, formats and bounds); the first problem is the reason."""
    for path in record.images:
        try:
            record.content(path)
        except DataError as error:
            return Drop("missing picture", str(error))
        try:
            record.picture(path)
        except DataError as error:
            return Drop("broken picture", str(error))
    return None
