"""A raw row of any kind of file -> **the row as JSON holds it**, which is what operators see and what is written."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.files.rows import checked_row


def json_row(raw: Row | bytes) -> Row:
    """Pictures as bytes in `images` or `image` become `data:` addresses; dates and times text (ISO 8601), durations
    seconds, decimals numbers, and numbers that are not finite null.

    Raises:
        BadRow: no row, or one with bytes in another column, or with whatever else JSON cannot hold.
    """
    return {key: _plain(value, key) for key, value in _with_addresses(checked_row(raw)).items()}


def _plain(value: Any, key: str) -> Any:
    match value:
        case None | str() | int():
            return value
        case dict():
            return {name: _plain(item, key) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item, key) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case UUID():
            return str(value)
    raise BadRow(
        f"key {key} holds {type(value).__name__}, which JSON cannot: leave the column out, or write bytes to files "
        "under media_root and name these"
    )


def _with_addresses(row: Row) -> Row:
    found = dict(row)
    if isinstance(images := row.get("images"), Sequence) and any(isinstance(image, dict) for image in images):
        found["images"] = [_address(image) for image in images]
    if isinstance(row.get("image"), dict):
        found["image"] = _address(row["image"])
    return found


def _address(image: Any) -> Any:
    if not isinstance(image, dict) or not isinstance(image.get("bytes"), bytes):
        return image.get("path", image) if isinstance(image, dict) else image
    return "data:image/png;base64," + base64.b64encode(image["bytes"]).decode("ascii")
