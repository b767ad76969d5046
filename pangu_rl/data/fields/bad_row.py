"""Why a row cannot be used, and the columns that hold text."""

from __future__ import annotations

import unicodedata
from typing import Any

Row = dict[str, Any]

_NO_INK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Joiners and fillers that Unicode counts as letters or marks, and the empty Braille pattern."""


class BadRow(Exception):
    """Why a row cannot be used; the caller adds file and row number."""


def text_field(row: Row, key: str, default: str | None = None) -> str:
    """`row[key]`, which must be text; `default` stands in for a missing or null value."""
    value = row.get(key)
    if value is None:
        value = default
    if value is None:
        raise BadRow(f"key {key} is missing")
    if not isinstance(value, str):
        raise BadRow(f"key {key} is {type(value).__name__} {str(value)[:40]!r}, not text")
    return value


def is_blank(text: str) -> bool:
    """Whether nobody sees anything of `text`: white space, control and format characters such as U+200B, and letters
    without ink."""
    return all(char.isspace() or char in _NO_INK or unicodedata.category(char) in ("Cc", "Cf") for char in text)
