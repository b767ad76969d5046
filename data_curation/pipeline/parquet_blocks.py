"""A Parquet file -> **blocks of rows**, also within a row group, which may hold a million; and the rows of a block.

Nothing of a group can be read without what is before it, so a worker goes on where its last block of the file ended.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path

import pyarrow as pa

from pangu_rl.data.arrow.parquet import GROUP_BYTES, parquet_file, row_batches
from pangu_rl.data.arrow.values import row_at
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.errors import DataError

KEPT = 2
"""Open files of a worker, which works blocks in the order of the files."""


def row_ranges(path: Path, block_bytes: int) -> list[tuple[int, int]]:
    """First row and the one behind the last, from 0, of each block: of `block_bytes` before compression, counting each
    row of a group alike. Raises `DataError` for a file that is none."""
    with parquet_file(path) as file:
        groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
    cuts, row, size = [0], 0, 0.0
    for group in groups:
        each = max(1.0, group.total_byte_size / max(1, group.num_rows))
        end = row + group.num_rows
        while row < end:
            taken = min(end - row, max(1, math.ceil((block_bytes - size) / each)))
            row, size = row + taken, size + taken * each
            if size >= block_bytes:
                cuts.append(row)
                size = 0.0
    return list(pairwise(cuts if cuts[-1] == row else [*cuts, row]))


def rows_between(path: Path, begin: int, end: int) -> Iterator[tuple[int, Row | bytes]]:
    """Number of each row in the file, from 1, and the row.

    Raises:
        DataError: what cannot be read, or needs more than `GROUP_BYTES`: a text that is repeated is stored once.
    """
    status = path.stat()
    opened = _opened(path, status.st_mtime_ns, status.st_size)
    at, size = begin, 0
    while at < end:
        first, batch = opened.holding(at)
        size += batch.nbytes
        if size > GROUP_BYTES:
            raise DataError(
                f"{path}: rows {begin + 1} to {end} need more than {GROUP_BYTES / 2**30:g} GiB in memory: "
                "set shard_mib lower"
            )
        behind = min(end, first + batch.num_rows)
        for row in range(at, behind):
            yield row + 1, row_at(batch, row - first)
        at = behind


class _Opened:
    """A file, decoded batch by batch as it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, parquet_file(path)
        sizes = (self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups))
        self._starts = list(accumulate(sizes, initial=0))
        self._first, self._end = 0, 0
        """Rows from the batch on that are left of the group."""
        self._batch: pa.RecordBatch
        self._batches: Iterator[pa.RecordBatch]

    def holding(self, row: int) -> tuple[int, pa.RecordBatch]:
        """The batch that has `row` in it, and the number of its first row."""
        if not self._first <= row < self._end:
            group = bisect_right(self._starts, row) - 1
            self._first, self._end = self._starts[group], self._starts[group + 1]
            self._batches = row_batches(self._file, self._path, group)
            self._batch = next(self._batches)
        while row >= self._first + self._batch.num_rows:
            self._first += self._batch.num_rows
            self._batch = next(self._batches)
        return self._first, self._batch


@lru_cache(maxsize=KEPT)
def _opened(path: Path, _changed: int, _size: int) -> _Opened:
    return _Opened(path)
