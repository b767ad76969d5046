"""What a foreign format is: how its rows are known, which of their columns are used, and what they mean to us."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One system's rows."""

    name: str
    """Its value of `data.format`."""
    shown: str
    """Its columns as a person would list them, for messages."""
    recognises: Callable[[Row], bool]
    """Whether a row has what only this format's have."""
    convert: Callable[[Row, Kind], Row]
    """The columns in `used` -> ours; raises `BadRow`. Pure."""
    used: frozenset[str]
    """Columns that `convert` reads."""
    only: Mapping[str, tuple[Kind, ...]] = field(default_factory=dict)
    """Of the used columns, those that some kinds of rows alone read."""
    within: Callable[[Row, Kind], bool] = lambda row, kind: False
    """Whether a row that has our own columns writes them in this format's way."""
    passed: frozenset[str] = frozenset()
    """Columns that are known to the format and that no stage trains on; reward functions see them."""

    def row(self, row: Row, kind: Kind) -> Row:
        """The whole row in our columns; those that the format does not know stay as they are, to be judged."""
        rest = {k: v for k, v in row.items() if k not in self.used or kind not in self.only.get(k, (kind,))}
        converted = {key: value for key, value in self.convert(row, kind).items() if value is not None}
        if clash := sorted(set(rest) & set(converted)):
            raise BadRow(f"key {clash[0]} stands beside those that {self.name} makes it from: take one of them out")
        return rest | converted


def one_or_list(row: Row, one: str, many: str) -> Any:
    """The column `many`, or a list of what the column `one` has instead of it; raises `BadRow` for both."""
    given, listed = row.get(one), row.get(many)
    if given is None:
        return listed
    if listed:
        raise BadRow(f"the row has both {one} and {many}: take one of them out")
    return given if isinstance(given, list) else [given]


def text_or_json(value: Any, where: str) -> Any:
    """JSON that a file holds as text or as it is; raises `BadRow`."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"key {where} is text that is no JSON: {error}") from None


def calls(value: Any, where: str) -> list[Row]:
    """One call `{"name", "arguments"}` or several -> `tool_calls`; raises `BadRow`."""
    found = text_or_json(value, where)
    return list(found) if isinstance(found, list) else [found]


def prefixed(row: Mapping[str, Any], system: str | None, messages: list[Row]) -> list[Row]:
    """The messages behind the row's system text, if it has one; raises `BadRow` for two of them."""
    if not system:
        return messages
    if messages and messages[0].get("role") == "system":
        raise BadRow("the row has a system column and a system turn: take one of them out")
    return [{"role": "system", "content": system}, *messages]
