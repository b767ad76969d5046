"""Rows of a file by number, each read when it is wanted: file -> **index of rows** -> loaders of pre-training.

What is held of a row is its identity and where it lies. The index travels to the loaders, which open the file anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.data.conversations import Conversation, parse_conversation
from pangu_rl.data.documents import Document, is_document, parse_document
from pangu_rl.data.rows import BadRow, OnBadRow, Row, checked_row, numbered_rows, row_uid, text_field
from pangu_rl.errors import DataError

log = logging.getLogger(__name__)
GROUPS = 4
"""Row groups of a Parquet file that are kept open."""


@dataclass(frozen=True, slots=True)
class RowRef:
    """A row before it is read."""

    index: int
    uid: str
    source: str
    images: tuple[str, ...] = ()
    """Not known yet; their content is no part of the data's identity."""


@dataclass(frozen=True, kw_only=True)
class RowFile:
    """A JSONL or Parquet file of N conversations and documents."""

    path: Path
    uids: tuple[str, ...]
    sources: tuple[str, ...]
    numbers: np.ndarray
    """int64 [N], the row's number in the file, from 1, as messages name it."""
    starts: np.ndarray
    """int64: of JSONL [N], the byte where a row's line starts; of Parquet [G + 1], the first row of each row group."""
    skipped: tuple[str, ...] = field(default=(), compare=False)
    """A line (file, row, reason) for each row that has no identity."""

    def __len__(self) -> int:
        return len(self.uids)

    @cached_property
    def index_of(self) -> dict[str, int]:
        return {uid: index for index, uid in enumerate(self.uids)}

    def refs(self) -> list[RowRef]:
        return [RowRef(i, uid, source) for i, (uid, source) in enumerate(zip(self.uids, self.sources, strict=True))]

    def where(self, index: int) -> str:
        """`file, row n`, for messages."""
        return f"{self.path}, row {self.numbers[index]} ({self.uids[index]})"

    def read(self, index: int) -> Conversation | Document:
        """Read and parse one row.

        Raises:
            DataError: it is neither a conversation nor a document; names file, row and key.
        """
        try:
            row = checked_row(self._raw(index))
            parse = parse_document if is_document(row) else parse_conversation
            return parse(row, self.uids[index])
        except BadRow as reason:
            raise DataError(f"{self.where(index)}: {reason}") from None

    def _raw(self, index: int) -> Row | bytes:
        if self.path.suffix != ".parquet":
            with self.path.open("rb") as file:
                file.seek(int(self.starts[index]))
                return file.readline()
        number = int(self.numbers[index]) - 1
        group = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self._groups(group).slice(number - int(self.starts[group]), 1).to_pylist()[0]

    @cached_property
    def _groups(self) -> Any:
        return lru_cache(maxsize=GROUPS)(pq.ParquetFile(self.path).read_row_group)

    def __getstate__(self) -> dict[str, Any]:
        """Without open files and the dictionary."""
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}


def open_rows(path: Path, *, on_bad_row: OnBadRow) -> RowFile:
    """Index `path`. Identities are checked now, everything else of a row when it is read.

    Raises:
        DataError: no such file, no JSONL or Parquet, two rows of one id, a row without identity that may not be
            skipped, or no row.
    """
    found: dict[str, tuple[str, int, int]] = {}
    skipped: list[str] = []
    for number, start, raw in _identities(path):
        try:
            row = checked_row(raw)
            uid = row_uid(row, f"{path.stem}:{number}")
            if uid in found:
                raise BadRow(f"id {uid!r} is already that of row {found[uid][1]}: ids must be unique")
            found[uid] = (text_field(row, "source", ""), number, start)
        except BadRow as reason:
            skipped.append(f"{path}, row {number}: {reason}")
            if on_bad_row == "refuse":
                raise DataError(f"{skipped[0]} (mend it, or set data.on_bad_row to skip)") from None
    if not found:
        raise DataError(f"{path}: no usable row" + (f"; the first of {len(skipped)}: {skipped[0]}" if skipped else ""))
    sources, numbers, starts = zip(*found.values(), strict=True)
    return RowFile(
        path=path,
        uids=tuple(found),
        sources=sources,
        numbers=np.array(numbers, dtype=np.int64),
        starts=_group_starts(path) if path.suffix == ".parquet" else np.array(starts, dtype=np.int64),
        skipped=tuple(skipped),
    )


def _identities(path: Path) -> Iterator[tuple[int, int, Row | bytes]]:
    """(number from 1, byte where it starts, what holds its identity) of every row."""
    if path.suffix == ".parquet" and path.is_file():
        yield from ((number, 0, row) for number, row in enumerate(_identity_columns(path), start=1))
    elif path.suffix in (".jsonl", ".json") and path.is_file():
        with path.open("rb") as file:
            start = 0
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, start, line
                start += len(line)
    else:
        next(iter(numbered_rows(path)), None)
        raise DataError(f"{path}: pre-training reads .jsonl or .parquet, whose rows can be read one by one")


def _identity_columns(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in ("id", "source") if name in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group, columns=names).to_pylist()
                yield from rows if names else ({} for _ in range(file.metadata.row_group(group).num_rows))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from None


def _group_starts(path: Path) -> np.ndarray:
    meta = pq.read_metadata(path)
    sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
    return np.cumsum([0, *sizes])
