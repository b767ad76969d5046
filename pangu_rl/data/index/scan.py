"""A range of a file, read row by row or as tables -> identities and places -> **a shard on disk**."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pangu_rl.data.arrow.parquet import parquet_file, row_group
from pangu_rl.data.fields.bad_row import BadRow, Row, text_field
from pangu_rl.data.files.rows import checked_row, row_uid
from pangu_rl.data.files.webdataset import shard_row
from pangu_rl.data.index.files import PARQUET, TAR, Range
from pangu_rl.data.index.media import MEDIA, missing_media
from pangu_rl.data.index.shards import COLUMN_TYPES, NAMED, Found, hash_of, write_shard
from pangu_rl.errors import DataError

BLOCK_ROWS = 65_536
Block = dict[str, np.ndarray]
"""Rows as columns: those of the shard but `by_source`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """How a row of one range is told apart."""

    stem: str
    first: int
    """Rows of the file before the range."""

    def uid(self, row: Row, number: int) -> str:
        """The row's own id, or file and number; raises `BadRow`."""
        return row_uid(row, f"{self.stem}:{self.first + number}")


def scan(some: Range, media_root: Path | None, shard: Path) -> Found:
    """Write `shard` and the sorted hashes beside it.

    Raises:
        DataError: a file that cannot be read.
    """
    found = Found()
    identity = Identity(some.path.stem, some.first)
    rows = _parquet if some.path.suffix == PARQUET else _one_by_one
    blocks = list(rows(some, identity, media_root, found))
    columns = {
        name: np.concatenate([np.zeros(0, kind), *(block[name] for block in blocks)])
        for name, kind in COLUMN_TYPES.items()
    }
    found.problems = sorted(found.problems)[:NAMED]
    write_shard(shard, columns, found)
    return found


def _one_by_one(some: Range, identity: Identity, media_root: Path | None, found: Found) -> Iterator[Block]:
    kept: list[tuple] = []
    rows = _tar_rows(some, found) if some.path.suffix == TAR else _lines(some, found)
    for number, start, raw in rows:
        try:
            row = checked_row(raw)
            uid, source = identity.uid(row, number), text_field(row, "source", "")
            if media_root and (problem := missing_media(row, media_root)):
                raise BadRow(problem)
        except BadRow as reason:
            found.leave_out(number, str(reason))
            continue
        code = found.sources.setdefault(source, len(found.sources))
        kept.append((hash_of(uid), number, start, code))
        if len(kept) == BLOCK_ROWS:
            yield _columns(kept)
            kept.clear()
    if kept:
        yield _columns(kept)


def _columns(rows: list[tuple]) -> Block:
    columns = zip(*rows, strict=True)
    return {name: np.array(column, kind) for (name, kind), column in zip(COLUMN_TYPES.items(), columns, strict=True)}


def _lines(some: Range, found: Found) -> Iterator[tuple[int, int, bytes]]:
    """(number, byte, line) of the lines that begin in the range; blank ones have a number."""
    with some.path.open("rb") as file:
        if some.begin:
            file.seek(some.begin - 1)
            file.readline()
        start = file.tell()
        while start < some.end and (line := file.readline()):
            found.numbered += 1
            if line.strip():
                yield found.numbered, start, line
            start += len(line)


def _tar_rows(some: Range, found: Found) -> Iterator[tuple[int, int, Row | bytes]]:
    for number in range(some.begin, some.end):
        found.numbered += 1
        yield found.numbered, 0, shard_row(some.path, number)


def _parquet(some: Range, identity: Identity, media_root: Path | None, found: Found) -> Iterator[Block]:
    with parquet_file(some.path) as file:
        there = [name for name in ("id", "source", *MEDIA) if name in file.schema_arrow.names]
        for group in range(some.begin, some.end):
            table = row_group(file, some.path, group, there)
            if not there:
                table = pa.table({"none": pa.nulls(file.metadata.row_group(group).num_rows)})
            try:
                yield _block(table, identity, media_root, found)
            except BadRow as reason:
                raise DataError(f"{some.path}: {reason}") from None


def _block(table: pa.Table, identity: Identity, media_root: Path | None, found: Found) -> Block:
    first = found.numbered
    found.numbered += len(table)
    hashes, problems = _id_hashes(table, identity, first)
    problems = dict(sorted({**problems, **_missing(table, media_root)}.items()))
    for row, reason in problems.items():
        found.leave_out(first + row + 1, reason)
    block = {
        "id_hash": hashes,
        "number": np.arange(first + 1, first + len(table) + 1, dtype=np.uint32),
        "start": np.zeros(len(table), np.uint64),
        "source": _source_codes(table, found),
    }
    return {name: np.delete(column, list(problems)) for name, column in block.items()} if problems else block


def _id_hashes(table: pa.Table, identity: Identity, first: int) -> tuple[np.ndarray, dict[int, str]]:
    """uint64 [N], and row -> reason, of those without an identity."""
    hashes, problems = np.zeros(len(table), np.uint64), {}
    ids = table["id"] if "id" in table.column_names else pa.nulls(len(table))
    if pa.types.is_string(ids.type) and not ids.null_count and pc.min(pc.binary_length(ids)).as_py():
        texts = ids.cast(pa.binary()).to_pylist()
        return np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(texts)), problems
    for row, given in enumerate(ids.to_pylist()):
        try:
            hashes[row] = hash_of(identity.uid({"id": given}, first + row + 1))
        except BadRow as reason:
            problems[row] = str(reason)
    return hashes, problems


def _source_codes(table: pa.Table, found: Found) -> np.ndarray:
    """int32 [N]; new sources are added to those that were found."""
    if "source" not in table.column_names:
        return np.full(len(table), found.sources.setdefault("", len(found.sources)), np.int32)
    column = table["source"].combine_chunks()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise BadRow(f"column source is {kind}, not text")
    names = column.cast(pa.string()).fill_null("").dictionary_encode()
    codes = [found.sources.setdefault(name, len(found.sources)) for name in names.dictionary.to_pylist()]
    return np.array(codes, np.int32)[names.indices.to_numpy()]


def _missing(table: pa.Table, media_root: Path | None) -> dict[int, str]:
    """Row -> reason, of those whose pictures or videos are not there."""
    named = [name for name in MEDIA if name in table.column_names]
    if media_root is None or not named:
        return {}
    rows = enumerate(table.select(named).to_pylist())
    return {row: problem for row, media in rows if (problem := missing_media(media, media_root))}
