"""A line of `pangu-rl score`'s input -> the row and the gold in it, or what is wrong with it; and a row -> a line."""

from __future__ import annotations

import json
from typing import Any

from pangu_rl.records import Prompt
from rewards.recipe.accuracy import gold_of
from rewards.rules.gold import PLACE_TYPES, Gold


class BadRow(Exception):
    """Why a row cannot be graded, in one line."""


def parse_row(line: bytes) -> dict[str, Any]:
    """A line as the object that it is; raises `BadRow`."""
    try:
        row = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
        encode_row(row)  # also refuses what cannot be written again
    except UnicodeDecodeError as error:
        raise BadRow(f"is not UTF-8 at byte {error.start}: save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadRow(f"is not JSON: {error.msg} at column {error.colno}" if line.strip() else "is empty") from None
    except (RecursionError, ValueError) as error:  # nesting, NaN, 1e999, or an integer of thousands of digits
        raise BadRow(f"is not JSON that can be read: {error}") from None
    if not isinstance(row, dict):
        raise BadRow(f"is a JSON {type(row).__name__}, not an object")
    return row


def typed_gold(row: dict[str, Any]) -> Gold:
    """What the row is graded against; raises `BadRow` or `BadGold` with the key at fault."""
    answer_type = text_of(row, "answer_type", "auto")
    # The columns of a row mean what they mean in a prompt set.
    return gold_of(Prompt(uid="", messages=(), answer=_gold_text(row, answer_type), answer_type=answer_type, extra=row))


def text_of(row: dict[str, Any], key: str, default: str | None = None) -> str:
    """`row[key]`, which must be text; `default` stands in for a missing or null value."""
    value = row.get(key)
    if value is None:
        value = default
    if value is None:
        raise BadRow(f"key {key} is missing")
    if not isinstance(value, str):
        raise BadRow(f"key {key} is {type(value).__name__} {str(value)[:40]!r}, not text")
    return value


def _gold_text(row: dict[str, Any], answer_type: str) -> str:
    """Golds of numbers, lists and boxes are often written as JSON; null is the gold of an absent object."""
    if "gold" not in row:
        raise BadRow("key gold is missing")
    gold = row["gold"]
    if isinstance(gold, str):
        return gold
    if gold is None and answer_type not in PLACE_TYPES:
        raise BadRow("key gold is null")
    return json.dumps(gold, ensure_ascii=False)


def encode_row(row: Any) -> bytes:
    """A row as a line. ASCII, so that half a surrogate pair keeps its escape."""
    return json.dumps(row, allow_nan=False).encode("ascii") + b"\n"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
