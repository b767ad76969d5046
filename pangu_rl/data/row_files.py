"""Rows of files by number, each read when it is wanted: files -> **index of rows** -> loaders of pre-training.

What is held of a row is its identity and where it lies. The index travels to the loaders, which open the files anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.data.conversations import Conversation, parse_conversation
from pangu_rl.data.documents import Document, is_document, parse_document
from pangu_rl.data.fields.bad_row import BadRow, Row, text_field
from pangu_rl.data.fields.columns import unused
from pangu_rl.data.rows import OnBadRow, checked_row, is_json_array, row_uid, without_merged_nulls
from pangu_rl.data.webdataset import shard_row, shard_rows
from pangu_rl.errors import DataError

PARQUET, TAR, LINES = ".parquet", ".tar", (".jsonl", ".json")
GROUPS = 4
"""Row groups of Parquet files that are kept open."""


@dataclass(frozen=True, slots=True)
class RowRef:
    """A row before it is read."""

    index: int
    uid: str
    source: str
    images: tuple[str, ...] = ()
    """Not known yet; their content is no part of the data's identity."""


@dataclass(frozen=True, kw_only=True)
class RowFiles:
    """JSONL files, Parquet files and WebDataset tars of N conversations and documents together."""

    paths: tuple[Path, ...]
    uids: tuple[str, ...]
    sources: tuple[str, ...]
    files: np.ndarray
    """int32 [N], the row's file, an index into `paths`."""
    numbers: np.ndarray
    """int64 [N], the row's number in its file, from 1, as messages name it."""
    starts: np.ndarray
    """int64 [N], of JSONL the byte where the row's line starts, else 0."""
    passed: tuple[str, ...] = ()
    """Columns that are meant to be unused."""
    skipped: tuple[str, ...] = field(default=(), compare=False)
    """A line (file, row, reason) for each row that has no identity."""

    def __len__(self) -> int:
        return len(self.uids)

    @property
    def name(self) -> str:
        """For messages about all of them."""
        return f"{self.paths[0]}" + (f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else "")

    @cached_property
    def index_of(self) -> dict[str, int]:
        return {uid: index for index, uid in enumerate(self.uids)}

    def refs(self) -> list[RowRef]:
        return [RowRef(i, uid, source) for i, (uid, source) in enumerate(zip(self.uids, self.sources, strict=True))]

    def where(self, index: int) -> str:
        """`file, row n`, for messages."""
        return f"{self.paths[self.files[index]]}, row {self.numbers[index]} ({self.uids[index]})"

    def read(self, index: int) -> Conversation | Document:
        """Read and parse one row.

        Raises:
            DataError: it is neither a conversation nor a document; names file, row and key.
        """
        try:
            row = checked_row(self._raw(index))
            unused(row, "document" if is_document(row) else "conversation", self.passed)
            parse = parse_document if is_document(row) else parse_conversation
            return parse(row, self.uids[index])
        except BadRow as reason:
            raise DataError(f"{self.where(index)}: {reason}") from None

    def sha256(self) -> str:
        """Of all that the files say: hex digest of the one file, or of the digests of all, in order.

        Of a tar the rows count and the names of their pictures; as beside a JSONL file, pictures do not.
        """
        digests = [_digest(path) for path in self.paths]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def _raw(self, index: int) -> Row | bytes:
        path, number = self.paths[self.files[index]], int(self.numbers[index]) - 1
        if path.suffix == TAR:
            return shard_row(path, number)
        if path.suffix == PARQUET:
            starts = self._group_starts(path)
            group = int(np.searchsorted(starts, number, side="right")) - 1
            return without_merged_nulls(self._group(path, group).slice(number - int(starts[group]), 1).to_pylist()[0])
        with path.open("rb") as file:
            file.seek(int(self.starts[index]))
            return file.readline()

    @cached_property
    def _group(self) -> Any:
        return lru_cache(maxsize=GROUPS)(lambda path, group: pq.ParquetFile(path).read_row_group(group))

    @cached_property
    def _group_starts(self) -> Any:
        """Parquet file -> int64 [G + 1], the first row of each of its row groups."""
        return lru_cache(maxsize=None)(_group_starts)

    def __getstate__(self) -> dict[str, Any]:
        """Without open files and the dictionary."""
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}


def open_rows(sources: Path | Sequence[Path], *, on_bad_row: OnBadRow, passed: Sequence[str] = ()) -> RowFiles:
    """Index the files of `sources`: files, or folders of files of one kind, whose names give the order. Identities are
    checked now, everything else of a row when it is read. `passed` are columns that are meant to be unused.

    Raises:
        DataError: no such file, none of a known kind, a folder of several kinds, two rows of one id, a row without
            identity that may not be skipped, or no row.
    """
    paths = [file for source in ([sources] if isinstance(sources, Path) else sources) for file in _files(source)]
    found: dict[str, tuple[str, int, int, int]] = {}
    skipped: list[str] = []
    for file, path in enumerate(paths):
        for number, start, raw in _identities(path):
            try:
                row = checked_row(raw)
                uid = row_uid(row, f"{path.stem}:{number}")
                if earlier := found.get(uid):
                    other = "" if earlier[1] == file else f" of {paths[earlier[1]]}"
                    raise BadRow(f"id {uid!r} is already that of row {earlier[2]}{other}: ids must be unique")
                found[uid] = (text_field(row, "source", ""), file, number, start)
            except BadRow as reason:
                skipped.append(f"{path}, row {number}: {reason}")
                if on_bad_row == "refuse":
                    raise DataError(f"{skipped[0]} (mend it, or set data.on_bad_row to skip)") from None
    if not found:
        hint = f"; the first of {len(skipped)}: {skipped[0]}" if skipped else ""
        raise DataError(f"{', '.join(map(str, paths[:3]))}: no usable row{hint}")
    names, files, numbers, starts = zip(*found.values(), strict=True)
    return RowFiles(
        paths=tuple(paths),
        passed=tuple(passed),
        uids=tuple(found),
        sources=names,
        files=np.array(files, dtype=np.int32),
        numbers=np.array(numbers, dtype=np.int64),
        starts=np.array(starts, dtype=np.int64),
        skipped=tuple(skipped),
    )


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder of rows")
    if source.is_file():
        if source.suffix not in (PARQUET, TAR, *LINES):
            raise DataError(f"{source}: pre-training reads .jsonl, .parquet and .tar, found {source.suffix!r}")
        return [source]
    files = sorted(path for path in source.iterdir() if path.suffix in (PARQUET, TAR, *LINES) and path.is_file())
    if not files:
        raise DataError(f"{source}: a folder without .parquet, .tar or .jsonl files")
    if len(kinds := sorted({path.suffix for path in files})) > 1:
        raise DataError(f"{source}: a folder of {' and '.join(kinds)} files: name those that are rows, in a list")
    return files


def _identities(path: Path) -> Iterator[tuple[int, int, Row | bytes]]:
    """(number from 1, byte where it starts, what holds its identity) of every row."""
    if path.suffix == PARQUET:
        yield from ((number, 0, row) for number, row in enumerate(_identity_columns(path), start=1))
    elif path.suffix == TAR:
        yield from ((number, 0, row) for number, row in enumerate(shard_rows(path), start=1))
    else:
        if is_json_array(path):
            raise DataError(f"{path}: is a JSON array; pre-training reads one object per line: write it as JSONL")
        with path.open("rb") as file:
            start = 0
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, start, line
                start += len(line)


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


def _digest(path: Path) -> str:
    if path.suffix == TAR:
        digest = hashlib.sha256()
        for row in shard_rows(path):
            digest.update(row if isinstance(row, bytes) else json.dumps(row, sort_keys=True).encode())
            digest.update(b"\n")
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
