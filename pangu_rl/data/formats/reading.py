"""How the rows of a file are read: **the configuration's word, and the file's first row, decide its format**."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pangu_rl.config.sections.rows import RowsConfig
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import USED, Columns, Kind, meant, unused
from pangu_rl.data.fields.markers import OBJECTS, spelled, texts_of
from pangu_rl.data.formats import FORMATS
from pangu_rl.data.formats.dataset_info import described
from pangu_rl.data.formats.format import Format

AUTO, OURS = "auto", "pangu"
NEEDED: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "conversation": (("messages",), ("prompt", "response")),
    "pair": (("messages", "chosen", "rejected"), ("prompt", "chosen", "rejected")),
    "prompt": (("messages", "answer"), ("prompt", "answer")),
    "query": (("messages",), ("prompt", "response"), ("prompt", "answer")),
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
        passed = self._reading.columns.passed
        if not self._decided:
            self._format, self._decided = self._told({k: v for k, v in row.items() if k not in passed}), True
        read = USED[self._kind] | (self._format.used if self._format else frozenset())
        # Messages have keys of the names of the last two as well, and those are rather meant.
        off = passed & read - {"id", "source"}
        row = {name: value for name, value in row.items() if name not in off}
        if self._format is not None:
            row = self._format.row(row, self._kind)
        else:
            self._require_ours(row)
        self._require_told(row)
        left = unused(row, self._kind, passed | self._format.passed if self._format else passed)
        if self._kind not in ("prompt", "query"):  # there they go to the reward functions
            self._unused.update(left)
        self._spelled.update(spelled(row))
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
        return next((one for one in FORMATS if (one.within(row, self._kind) if ours else one.recognises(row))), None)

    def _require_ours(self, row: Row) -> None:
        """
        Raises:
            BadRow: a column is missing, with what may be meant as it.
        """
        sets = NEEDED[self._kind]
        if self._kind == "document" or any(all(row.get(key) is not None for key in keys) for keys in sets):
            return
        nearest = max(reversed(sets), key=lambda keys: sum(row.get(key) is not None for key in keys))
        missing = [key for key in nearest if row.get(key) is None]
        hint = self._hint(row, missing)
        if self._reading.format != AUTO or len(missing) < len(nearest):
            raise BadRow(f"key {missing[0]} is missing{hint and f': {hint}'}")
        near = max(FORMATS, key=lambda one: len(row.keys() & one.used))
        known = f"nearest is {near.name} ({near.shown})" if row.keys() & near.used else "no key of it is known"
        raise BadRow(
            f"fits no format: its keys are {', '.join(sorted(row)) or 'none'}; a {self._kind} has "
            f"{' or '.join(' and '.join(keys) for keys in sets)}; {hint or known}; map columns with data.columns, or "
            f"set data.format ({', '.join(one.name for one in FORMATS)})"
        )

    def _hint(self, row: Row, missing: list[str]) -> str:
        """What may be meant as the columns that are missing; empty where nothing of the row looks like them."""
        ours = {column: name for name in sorted(row, reverse=True) if (column := meant(name, row, self._kind))}
        if mapped := {column: ours[column] for column in missing if column in ours}:
            settings = " ".join(f"data.columns.{name}={column}" for column, name in mapped.items())
            return f"if {' and '.join(mapped.values())} {'is' if len(mapped) == 1 else 'are'} meant, set {settings}"
        lacking = [key for keys in NEEDED[self._kind] for key in keys if row.get(key) is None]
        for name in sorted(set(row) - USED[self._kind]):
            if near := difflib.get_close_matches(name, lacking, n=1, cutoff=0.75):
                return f"is {name} meant as {near[0]}?"
        if self._kind == "pair" and missing == ["prompt"]:
            return "put there what chosen and rejected answer, and take it off their beginnings"
        return ""

    def _require_told(self, row: Row) -> None:
        """
        Raises:
            BadRow: the text has places of boxes and names that another column holds.
        """
        if not row.get("objects") or "objects" in self._reading.columns.passed:
            return
        if held := sorted({marker for text, _ in texts_of(row) for marker in OBJECTS if marker in text}):
            raise BadRow(
                f"key objects holds what {' and '.join(held)} in the text stand for, and it is not put in there: write "
                "names and coordinates into the text, or name objects in data.pass_through"
            )
