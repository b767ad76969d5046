"""Arrow's columns -> **rows as they were written**, nothing of them decoded: a picture is its bytes and its path."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pangu_rl.data.fields.bad_row import Row


def row_at(rows: pa.RecordBatch | pa.Table, place: int) -> Row | bytes:
    """The row at `place`, from 0, and no other: a text that is held once is a text of its own in every row.

    Of a row with text that is no UTF-8, that text, to be refused as such.
    """
    try:
        return without_merged_nulls(rows.slice(place, 1).to_pylist()[0])
    except UnicodeDecodeError as error:
        return error.object


def without_merged_nulls(value: Any) -> Any:
    """Arrow gives each struct every key of any other in its column: a key that is null was not written."""
    if isinstance(value, dict):
        return {key: without_merged_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_merged_nulls(item) for item in value]
    return value
