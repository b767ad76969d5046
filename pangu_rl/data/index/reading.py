"""A place -> **the row that lies there**, raw: one line, one row of a row group, one sample of a tar."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.data.arrow.parquet import parquet_file, row_group
from pangu_rl.data.arrow.values import row_at
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.data.files.webdataset import shard_row
from pangu_rl.data.index.files import PARQUET, TAR
from pangu_rl.storage.copies import local_copy

GROUPS = 4
"""Row groups of Parquet that a reader keeps."""
FILES = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row lies."""

    path: Path
    number: int
    """In its file, from 1, as messages name it."""
    start: int
    """The byte where the line of a JSONL file starts, else 0."""

    def __str__(self) -> str:
        return f"{self.path}, row {self.number}"


class PlaceReader:
    """Reads rows wherever they lie; what it keeps open stays in its process."""

    def __init__(self) -> None:
        self._opened = lru_cache(FILES)(_opened)
        self._group = lru_cache(GROUPS)(lambda path, group: row_group(self._opened(path)[0], path, group))

    def raw(self, place: Place) -> Row | bytes:
        """The row, or the bytes that it is to be parsed from; of a remote file it is fetched where it is not here."""
        local_copy(place.path)
        if place.path.suffix == TAR:
            return shard_row(place.path, place.number - 1)
        if place.path.suffix == PARQUET:
            starts = self._opened(place.path)[1]
            group = int(np.searchsorted(starts, place.number - 1, side="right")) - 1
            rows: pa.Table = self._group(place.path, group)
            return row_at(rows, place.number - 1 - int(starts[group]))
        with place.path.open("rb") as file:
            file.seek(place.start)
            return file.readline()


def _opened(path: Path) -> tuple[pq.ParquetFile, np.ndarray]:
    """The file, and int64 [G + 1], the first row of each of its row groups."""
    file = parquet_file(path)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return file, np.cumsum([0, *sizes])
