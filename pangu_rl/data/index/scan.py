"""A range of a file -> **a shard on disk**, and the hashes of its ids in order, for the sort over all shards.

A shard is one batch of an Arrow file, uncompressed, so that it is read where it lies:

    id_hash uint64, number uint32 (within the range, from 1), start uint64 (byte of the line in a JSONL file),
    source int32 (the shard's own code), by_source uint32 (rows ordered by source), and the sizes
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pangu_rl.data.index.files import PARQUET, TAR, Range, parquet_file
from pangu_rl.data.index.media import MEDIA, missing_media
from pangu_rl.data.index.sizes import COLUMNS, SIZES, sizes_of_row, sizes_of_table
from pangu_rl.data.rows import BadRow, Row, checked_row, row_uid, text_field
from pangu_rl.data.webdataset import shard_row
from pangu_rl.errors import DataError

NAMED = 1000
"""Rows of a range that are named when they are left out; all are counted."""
BLOCK_ROWS = 65_536
PLACES = {"number": np.dtype("uint32"), "start": np.dtype("uint64"), "source": np.dtype("int32")}
COLUMN_TYPES = {"id_hash": np.dtype("uint64"), **PLACES, **SIZES}
Block = dict[str, np.ndarray]
"""Rows as columns: those of the shard but `by_source`."""


@dataclass(slots=True)
class Found:
    """What a range holds, without its rows."""

    rows: int = 0
    numbered: int = 0
    """Rows of the range so far, as messages number them: bad ones and blank lines count."""
    left_out: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    """(number within the range, reason) of the first that are left out."""
    sources: dict[str, int] = field(default_factory=dict)
    """Rows of each; their order is that of the codes."""
    totals: dict[str, float] = field(default_factory=dict)
    digest: str = ""

    def leave_out(self, number: int, reason: str) -> None:
        self.left_out += 1
        if len(self.problems) < NAMED:
            self.problems.append((number, reason))


@dataclass(frozen=True, slots=True)
class Identity:
    """How a row of one range is told apart."""

    stem: str
    first: int
    """Rows of the file before the range."""

    def uid(self, row: Row, number: int) -> str:
        """The row's own id, or file and number; raises `BadRow`."""
        return row_uid(row, f"{self.stem}:{self.first + number}")


def hash_of(uid: str) -> int:
    """64 bits."""
    return xxhash.xxh3_64_intdigest(uid.encode())


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


def write_shard(shard: Path, columns: Mapping[str, np.ndarray], found: Found) -> None:
    """Write the rows of `columns`, and fill in what is counted of them."""
    found.rows = len(columns["id_hash"])
    found.digest = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(columns["id_hash"]))
    counts = np.bincount(columns["source"], minlength=len(found.sources)).tolist()
    found.sources = dict(zip(found.sources, counts, strict=True))
    found.totals = {name: float(columns[name].sum(dtype=np.float64)) for name in SIZES}
    by_source = np.argsort(columns["source"], kind="stable").astype(np.uint32)
    write_columns(shard, {**columns, "by_source": by_source})
    order = np.argsort(columns["id_hash"], kind="stable").astype(np.uint32)
    np.save(hashes_of(shard), columns["id_hash"][order])
    np.save(order_of(shard), order)


def hashes_of(shard: Path) -> Path:
    """uint64 [N], sorted; there while the index is built."""
    return shard.with_suffix(".hashes.npy")


def order_of(shard: Path) -> Path:
    """uint32 [N], the row in the shard that each of the sorted hashes is of."""
    return shard.with_suffix(".order.npy")


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """An Arrow file of one batch, in the place of what is there."""
    batch = pa.record_batch([pa.array(column) for column in columns.values()], names=list(columns))
    partial = path.with_suffix(".partial")  # readers may have the old one mapped
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    os.replace(partial, path)


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of such a file, memory-mapped."""
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    return {name: batch.column(name).to_numpy(zero_copy_only=True) for name in batch.schema.names}


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
        kept.append((hash_of(uid), number, start, code, *sizes_of_row(row)))
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
        there = [name for name in ("id", "source", "videos", *COLUMNS) if name in file.schema_arrow.names]
        for group in range(some.begin, some.end):
            try:
                table = file.read_row_group(group, columns=there)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{some.path}: not a readable Parquet file: {error}") from None
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
        **sizes_of_table(table),
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
    there = [name for name in MEDIA if name in table.column_names]
    if media_root is None or not there:
        return {}
    rows = enumerate(table.select(there).to_pylist())
    return {row: problem for row, named in rows if (problem := missing_media(named, media_root))}
