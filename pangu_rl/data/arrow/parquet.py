"""A Parquet file -> **rows and row groups**, in memory that does not depend on how well the file is compressed.

A text that is repeated is stored once and decoded for every row: 47 kB can hold 4 GB. So a few rows are decoded at a
time, and a row group that grows out of all proportion is refused while it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.data.arrow.values import row_at
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.errors import DataError

BATCH_ROWS = 64
"""Decoded at a time: as fast as thousands, and few enough of the longest texts."""
BATCH_BYTES = 256 * 2**20
"""Of rows that would each be as long as a whole column of their row group."""
GROUP_BYTES = 4 * 2**30
"""Of a row group in memory."""


def parquet_file(path: Path) -> pq.ParquetFile:
    """
    Raises:
        DataError: it is none.
    """
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def parquet_rows(path: Path) -> Iterator[Row | bytes]:
    """
    Raises:
        DataError: not a file that can be read.
    """
    with parquet_file(path) as file:
        for group in range(file.num_row_groups):
            for batch in row_batches(file, path, group):
                yield from (row_at(batch, place) for place in range(batch.num_rows))


def row_group(file: pq.ParquetFile, path: Path, group: int, columns: Sequence[str] | None = None) -> pa.Table:
    """A row group of `file`, opened from `path`, or some `columns` of it.

    Raises:
        DataError: one that cannot be read, or that needs more than `GROUP_BYTES`.
    """
    batches, size = [], 0
    for batch in row_batches(file, path, group, columns):
        size += batch.nbytes
        if size > GROUP_BYTES:
            raise DataError(
                f"{path}: row group {group} needs more than {GROUP_BYTES / 2**30:g} GiB in memory "
                f"({file.metadata.row_group(group).total_byte_size:,} bytes as it is written): write fewer rows a group"
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, batches[0].schema) if batches else file.schema_arrow.empty_table()


def row_batches(
    file: pq.ParquetFile, path: Path, group: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Those of a row group, as `row_group`, a few rows at a time: `BATCH_ROWS`, or fewer long ones.

    Raises:
        DataError: one that cannot be read.
    """
    meta = file.metadata.row_group(group)
    longest = max((meta.column(index).total_uncompressed_size for index in range(meta.num_columns)), default=0)
    rows = min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, longest)))
    try:
        yield from file.iter_batches(rows, row_groups=[group], columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable Parquet file: {error}")
