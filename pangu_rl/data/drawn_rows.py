"""Rows of a stage: few are read and judged at its start, **of many each when it is drawn**.

A stream gives the same rows either way, as long as none is bad: a bad row that is found at the start has no place in
the order, one that is found when it is drawn leaves its place to the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.files.row_files import RowFiles, open_rows
from pangu_rl.data.files.rows import MAX_CONSECUTIVE_BAD, Loaded, OnBadRow, evenly
from pangu_rl.data.formats.reading import AS_OURS, Reading, RowReader
from pangu_rl.data.index.files import row_files, rows_bytes
from pangu_rl.data.index.manifest import MANIFEST
from pangu_rl.data.mixing.shares import RepeatedRows, times_by_source
from pangu_rl.data.stream import PromptStream, fingerprint
from pangu_rl.errors import ConfigError, DataError

log = logging.getLogger(__name__)

READ_WHOLE = 16 * 2**20
"""Bytes of the rows' files up to which all are read, tokenised and judged at the start: a minute, about."""

MEND = "(mend it, or set data.on_bad_row to skip)"

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

    @property
    def identity(self) -> str:
        """Of what the rows say and of their order, hex: a run that was begun with another is not gone on with."""

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

    @property
    def identity(self) -> str:
        return fingerprint(self.records, self.digests)

    def __len__(self) -> int:
        return len(self.records)

    def stream(self, *, shuffle: bool, seed: int) -> PromptStream[Record]:
        return PromptStream(self.records, shuffle=shuffle, seed=seed, digests=self.digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedRows(Generic[Record]):
    """Only where they lie is known."""

    path: Path
    files: RowFiles
    reader: RowReader
    """A row as it is written -> one of our columns."""
    parse: Callable[[Row, str], Record]
    """That row and its id -> what is trained on; raises `BadRow` or `DataError`."""
    passed_over: Callable[[Record], str | None]
    """Under which name a sound row is left out, or None."""
    on_bad_row: OnBadRow
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of the rows an epoch, by source; without any each row comes once."""

    @classmethod
    def of(
        cls,
        path: Path,
        kind: Kind,
        *,
        on_bad_row: OnBadRow,
        parse: Callable[[Row, str], Record],
        reading: Reading = AS_OURS,
        media_root: Path | None = None,
        passed_over: Callable[[Record], str | None] = lambda record: None,
    ) -> IndexedRows[Record]:
        """The first row is looked at, which tells the format of all.

        Raises:
            DataError: as `open_rows`; under `refuse`, a first row of no known format, or with a column that looks
                meant for training and is not used.
        """
        files = open_rows(path, on_bad_row=on_bad_row, media_root=media_root)
        reader = RowReader(reading, kind, path)
        try:
            reader.row(files.raw(0)[0])
        except BadRow as reason:
            if on_bad_row == "refuse":
                raise DataError(f"{files.index.place(0)}: {reason} {MEND}") from None
        return cls(path=path, files=files, reader=reader, parse=parse, passed_over=passed_over, on_bad_row=on_bad_row)

    def mixed(self, shares: Mapping[str, float]) -> IndexedRows[Record]:
        """The same rows, each source as often as gives it its share of an epoch.

        Raises:
            ConfigError: shares that are not those of the rows' sources.
        """
        rows = replace(self, shares=shares)
        rows.epoch()
        return rows

    @property
    def skipped(self) -> list[str]:
        return self.files.skipped

    @property
    def left_out(self) -> int:
        return self.files.left_out

    @property
    def identity(self) -> str:
        return self.files.digest

    def __len__(self) -> int:
        return len(self.files)

    def notes(self) -> list[str]:
        """Lines on how the rows are read, of those that were read by now: at the start of the first alone."""
        return self.reader.notes()

    def stream(self, *, shuffle: bool, seed: int) -> DrawnRows[Record]:
        numbers = PromptStream(self.epoch(), shuffle=shuffle, seed=seed, identity=self.identity)
        return DrawnRows(self, numbers)

    def epoch(self) -> Sequence[int]:
        """The rows of an epoch, in no order; raises as `times_by_source`."""
        if not self.shares:
            return range(len(self.files))
        index = self.files.index
        times = times_by_source(self.shares, index.sources, str(self.path))
        return RepeatedRows([(index.of_source(source), weight) for source, weight in times.items()])

    def evenly(self, limit: int) -> Loaded[Record]:
        """`limit` of the rows, spread evenly, read now; those among them that cannot be used are missing.

        Raises:
            DataError: a bad row under `refuse`, or no row can be used.
        """
        kept: list[tuple[int, Record]] = []
        skipped = self.skipped
        for row in evenly(range(len(self)), limit):
            try:
                kept.append((self.files.index.place(row).number, self.read(row)))
            except DataError as reason:
                if self.on_bad_row == "refuse":
                    raise DataError(f"{reason} {MEND}") from None
                skipped.append(str(reason))
        if not kept:
            raise DataError(f"{self.path}: none of {limit} rows over it can be used; the last: {skipped[-1]}")
        numbers, records = map(list, zip(*kept, strict=True))
        return Loaded(self.path, self.on_bad_row, records, numbers, skipped, self.notes())

    def read(self, row: int) -> Record:
        """
        Raises:
            DataError: the row cannot be used; names file and row.
        """
        raw, uid = self.files.raw(row)
        try:
            return self.parse(self.reader.row(raw), uid)
        except (BadRow, DataError) as reason:
            raise DataError(f"{self.files.index.place(row)}: {reason}") from None


@dataclass(slots=True)
class DrawnRows(Generic[Record]):
    """Reads rows as they are drawn."""

    rows: IndexedRows[Record]
    numbers: PromptStream[int]
    left_out: dict[str, int] = field(default_factory=dict)
    _bad: int = 0
    """Bad rows on end."""
    _over: int = 0
    """Rows passed over since the last that was taken."""

    def next(self, n: int) -> list[tuple[int, Record]]:
        """The next `n` rows that can be used, each with its epoch.

        Raises:
            DataError: a bad row under `refuse`, too many of them on end, or none that is not passed over.
        """
        taken: list[tuple[int, Record]] = []
        while len(taken) < n:
            for epoch, row in self.numbers.next(n - len(taken)):
                record = self._judged(row)
                if record is not None:
                    taken.append((epoch, record))
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.numbers.state_dict() | {"left_out": dict(self.left_out)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises as that of `PromptStream`."""
        self.numbers.load_state_dict(state)
        self.left_out = dict(state["left_out"])

    def _judged(self, row: int) -> Record | None:
        try:
            record = self.rows.read(row)
        except DataError as reason:
            self._leave_out(reason)
            return None
        self._bad = 0
        if (name := self.rows.passed_over(record)) is None:
            self._over = 0
            return record
        self._over += 1
        self._count(name)
        if self._over > len(self.rows):
            raise DataError(f"{self.rows.path}: all of its {len(self.rows)} rows are {name}")
        return None

    def _leave_out(self, reason: DataError) -> None:
        if self.rows.on_bad_row == "refuse":
            raise DataError(f"{reason} {MEND}") from None
        self._bad += 1
        if self._bad > MAX_CONSECUTIVE_BAD:
            raise DataError(f"{reason}; {self._bad} bad rows on end: is this the right file?")
        log.warning("left out: %s", reason)
        self._count("bad_rows")

    def _count(self, name: str) -> None:
        self.left_out[name] = self.left_out.get(name, 0) + 1


def read_when_drawn(path: Path, reading: Reading = AS_OURS, *, alone: bool = True) -> bool:
    """Whether the rows of `path` are too many to be read at a stage's start; what has no index is read whole, as are
    files whose columns the configuration renames (an index knows rows by their own) and those that are mixed with
    others or by tokens, not `alone`.

    Raises:
        ConfigError: an index of rows that would have to be read whole.
    """
    drawable = alone and not reading.columns.renamed
    if (path / MANIFEST).is_file():
        if not drawable:
            raise ConfigError(
                f"{path}: an index of rows goes with none of data.columns, data.also, data.shares_by tokens: name its "
                "files"
            )
        return True
    try:
        return drawable and sum(map(rows_bytes, row_files([path]))) > READ_WHOLE
    except DataError:  # whoever reads it says why, or it is a folder that `datasets` saved
        return False
