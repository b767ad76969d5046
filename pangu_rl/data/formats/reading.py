"""How the rows of a file are read: **the configuration's word, and the file's first row, decide its format**."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pangu_rl.config.sections.rows import RowsConfig
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Columns, Kind, unused
from pangu_rl.data.fields.markers import spelled
from pangu_rl.data.formats import FORMATS
from pangu_rl.data.formats.dataset_info import described
from pangu_rl.data.formats.format import Format

AUTO, OURS = "auto", "pangu"
NEEDED: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "conversation": (("messages",), ("prompt", "response")),
    "pair": (("messages", "chosen", "rejected"), ("prompt", "chosen", "rejected")),
    "prompt": (("messages", "answer"), ("prompt", "answer")),
    "query": (("messages",), ("prompt", "answer"), ("prompt", "response")),
    "document": (("document",),),
}
"""Columns of which a row of our own has one of the sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the configuration says of all files of a stage."""

    format: str = AUTO
    columns: Columns = field(default_factory=Columns)
    turns: Literal["all", "last"] = "all"
    reasoning: Literal["keep", "strip"] = "keep"
    opened: str = ""
    """What the chat template's prompts write of every answer."""

    @classmethod
    def of(cls, data: RowsConfig, opened: str = "") -> Reading:
        return cls(
            opened=opened,
            format=data.format,
            columns=Columns(data.columns, frozenset(data.pass_through)),
            turns=getattr(data, "turns", "all"),
            reasoning=getattr(data, "reasoning", "keep"),
        )


AS_OURS = Reading()


class RowReader:
    """The rows of one file in our columns, and what is to be said of it."""

    def __init__(self, reading: Reading, kind: Kind, path: Path) -> None:
        """
        Raises:
            DataError: `path` names an entry of a `dataset_info.json` that is not there or cannot be read.
        """
        self.file, self._format = described(path) if "#" in path.name else (path, None)
        self._name = path.name
        self._reading, self._kind = reading, kind
        self._decided = self._format is not None
        self._unused: Counter[str] = Counter()
        self._spelled: Counter[str] = Counter()

    def row(self, raw: Row) -> Row:
        """
        Raises:
            BadRow: it is none of its file's format, or has a column that looks meant for training and is not used.
        """
        row = self._reading.columns.applied(raw)
        if not self._decided:
            self._format, self._decided = self._told(row), True
        passed = self._reading.columns.passed
        if self._format is not None:
            passed |= self._format.passed
            row = self._format.row(row, self._kind)
        else:
            self._require_ours(row)
        left = unused(row, self._kind, passed)
        if self._kind not in ("prompt", "query"):  # there they go to the reward functions
            self._unused.update(left)
        self._spelled.update(spelled(_texts(row), bool(row.get("images")), bool(row.get("videos"))))
        return row

    def notes(self) -> list[str]:
        """Lines for the run's log."""
        lines = []
        if self._format is not None:
            lines.append(f"{self._name}: its rows are read as {self._format.name}")
        if self._unused:
            lines.append(f"{self._name}: columns that are not used: {', '.join(sorted(self._unused))}")
        for marker, rows in sorted(self._spelled.items()):
            lines.append(f"{self._name}: {marker} stands in {rows} rows as text, at no picture or video of the row")
        return lines

    def _told(self, row: Row) -> Format | None:
        """The row's format; None is our own."""
        wanted = self._reading.format
        if wanted != AUTO:
            return next((one for one in FORMATS if one.name == wanted), None)
        ours = any(all(row.get(key) is not None for key in keys) for keys in NEEDED[self._kind])
        return next((one for one in FORMATS if (one.within(row) if ours else one.recognises(row))), None)

    def _require_ours(self, row: Row) -> None:
        known = {key for keys in NEEDED[self._kind] for key in keys}
        if self._reading.format != AUTO or row.keys() & known or self._kind == "document":
            return
        near = max(FORMATS, key=lambda one: len(row.keys() & one.used))
        hint = f"nearest is {near.name} ({near.shown})" if row.keys() & near.used else _similar(row, known)
        plain = next((name for name in row if name.isidentifier()), None)
        example = f", such as data.columns.{plain}={NEEDED[self._kind][-1][0]}" if plain else ""
        raise BadRow(
            f"fits no format: its keys are {', '.join(sorted(row)) or 'none'}; a {self._kind} has "
            f"{' or '.join(' and '.join(keys) for keys in NEEDED[self._kind])}; {hint}; map columns with "
            f"data.columns{example}, or set data.format ({', '.join(one.name for one in FORMATS)})"
        )


def _similar(row: Row, known: set[str]) -> str:
    for name in sorted(row):
        if near := difflib.get_close_matches(name, sorted(known), n=1):
            return f"is {name} meant as {near[0]}?"
    return "no key of it is known"


def _texts(value: Any) -> list[str]:
    """Every text in the messages of a row."""
    found = []
    for key in ("messages", "prompt"):
        content = value.get(key)
        if isinstance(content, str):
            found.append(content)
        for message in content if isinstance(content, list) else ():
            said = message.get("content") if isinstance(message, dict) else None
            found += [said] if isinstance(said, str) else []
    return found
