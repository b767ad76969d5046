"""Rows of a stage: few are read and judged at its start, **of many each when it is drawn**.

A stream gives the same rows either way, as long as none is bad: a bad row that is found at the start has no place in
the order, one that is found when it is drawn leaves its place to the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pangu_rl.data.index.files import row_files
from pangu_rl.data.index.manifest import MANIFEST
from pangu_rl.data.row_files import RowFiles
from pangu_rl.data.rows import MAX_CONSECUTIVE_BAD, BadRow, Loaded, Row
from pangu_rl.data.stream import PromptStream
from pangu_rl.errors import DataError

log = logging.getLogger(__name__)

READ_WHOLE = 16 * 2**20
"""Bytes of the rows' files up to which all are read, tokenised and judged at the start: a minute, about."""

Record = TypeVar("Record")
Out = TypeVar("Out", covariant=True)


class RowStream(Protocol[Out]):
    """The order of a stage's rows, and where it is."""

    left_out: Mapping[str, int]
    """Why drawn rows were passed over -> how many."""

    def next(self, n: int) -> list[tuple[int, Out]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class StageRows(Protocol[Out]):
    """N rows."""

    skipped: list[str]
    """A line (file, row, reason) for each of the first that were left out at the start."""
    left_out: int

    def __len__(self) -> int: ...

    def stream(self, *, shuffle: bool, seed: int) -> RowStream[Out]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRows(Generic[Record]):
    """All were read and are sound."""

    records: list[Record]
    skipped: list[str]
    digests: Mapping[str, str]
    """Path -> sha256 of their pictures."""

    @classmethod
    def of(cls, loaded: Loaded[Record], digests: Mapping[str, str]) -> ReadRows[Record]:
        return cls(records=loaded.records, skipped=loaded.skipped, digests=digests)

    @property
    def left_out(self) -> int:
        return len(self.skipped)

    def __len__(self) -> int:
        return len(self.records)

    def stream(self, *, shuffle: bool, seed: int) -> PromptStream[Record]:
        return PromptStream(self.records, shuffle=shuffle, seed=seed, digests=self.digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedRows(Generic[Record]):
    """Only where they lie is known."""

    files: RowFiles
    parse: Callable[[Row, str], Record]
    """Row and id -> what is trained on; raises `BadRow` or `DataError`."""
    passed_over: Callable[[Record], str | None] = lambda record: None
    """Under which name a sound row is left out, or None."""
    skips: bool = False
    """Whether a bad row is left out; it ends the run otherwise."""

    @property
    def skipped(self) -> list[str]:
        return self.files.skipped

    @property
    def left_out(self) -> int:
        return self.files.left_out

    def __len__(self) -> int:
        return len(self.files)

    def stream(self, *, shuffle: bool, seed: int) -> DrawnRows[Record]:
        numbers = PromptStream(range(len(self.files)), shuffle=shuffle, seed=seed, identity=self.files.digest)
        return DrawnRows(self, numbers)

    def read(self, row: int) -> Record:
        """
        Raises:
            DataError: the row cannot be used; names file and row.
        """
        raw, uid = self.files.raw(row)
        try:
            return self.parse(raw, uid)
        except (BadRow, DataError) as reason:
            raise DataError(f"{self.files.index.place(row)}: {reason}") from None


@dataclass(slots=True)
class DrawnRows(Generic[Record]):
    """Reads rows as they are drawn."""

    rows: IndexedRows[Record]
    numbers: PromptStream[int]
    left_out: dict[str, int] = field(default_factory=dict)

    def next(self, n: int) -> list[tuple[int, Record]]:
        """The next `n` rows that can be used, each with its epoch.

        Raises:
            DataError: a bad row under `refuse`, too many of them on end, or none that is not passed over.
        """
        taken: list[tuple[int, Record]] = []
        bad = over = 0
        while len(taken) < n:
            for epoch, number in self.numbers.next(n - len(taken)):
                try:
                    record = self.rows.read(number)
                except DataError as reason:
                    bad += 1
                    self._leave_out(reason, bad)
                    continue
                bad = 0
                if name := self.rows.passed_over(record):
                    over += 1
                    self._count(name)
                    if over > len(self.rows):
                        raise DataError(f"{self.rows.files.name}: all of its {len(self.rows)} rows are {name}")
                    continue
                over = 0
                taken.append((epoch, record))
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.numbers.state_dict() | {"left_out": dict(self.left_out)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises as that of `PromptStream`."""
        self.numbers.load_state_dict(state)
        self.left_out = dict(state["left_out"])

    def _leave_out(self, reason: DataError, on_end: int) -> None:
        if not self.rows.skips:
            raise DataError(f"{reason} (mend it, or set data.on_bad_row to skip)") from None
        if on_end > MAX_CONSECUTIVE_BAD:
            raise DataError(f"{reason}; {on_end} bad rows on end: is this the right file?")
        log.warning("left out: %s", reason)
        self._count("bad_rows")

    def _count(self, name: str) -> None:
        self.left_out[name] = self.left_out.get(name, 0) + 1


def read_when_drawn(path: Path) -> bool:
    """Whether the rows of `path` are too many to be read at a stage's start; what has no index is read whole."""
    if (path / MANIFEST).is_file():
        return True
    try:
        return sum(file.stat().st_size for file in row_files([path])) > READ_WHOLE
    except DataError:  # whoever reads it says why, or it is a folder that `datasets` saved
        return False
