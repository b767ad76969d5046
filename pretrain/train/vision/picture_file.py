"""Pictures of a vision stage and what they are told apart by: **one Arrow file, mapped by every process**, a row each.

    row int64 (of `data.train`, by the index of rows), picture uint16 (which of that row's), and
    labels fixed_size_list<int32, L>                                             whole pictures
    regions list<struct<box: fixed_size_list<double, 4>, text, labels, confidence>>   the text-aware stage

Nothing of it is held in memory; which rows it is of stands in its head, by the digest of their index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.errors import DataError
from pangu_rl.whole_file import whole_file

SUFFIX = ".arrow"
ROWS = 65_536
"""Of each of its batches but the last, so that a number leads to its batch without a list of them."""
KEPT = 256
"""Batches whose heads a process keeps."""
PLACE = {"row": pa.int64(), "picture": pa.uint16()}
REGION = pa.struct(
    {
        "box": pa.list_(pa.float64(), 4),
        "text": pa.string(),
        "labels": pa.list_(pa.int32()),
        "confidence": pa.float64(),
    }
)


def labels_schema(labels: int) -> pa.Schema:
    """Of whole pictures with so many labels each."""
    return pa.schema({**PLACE, "labels": pa.list_(pa.int32(), labels)})


REGIONS_SCHEMA = pa.schema({**PLACE, "regions": pa.list_(REGION)})


class PictureFile:
    """N pictures."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DataError: no such file.
        """
        self.path = path
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
            sizes = [self._batch(number).num_rows for number in (0, self._reader.num_record_batches - 1)]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: no Arrow file of pictures: {error}") from None
        self.schema = self._reader.schema
        self._rows = ROWS * (self._reader.num_record_batches - 1) + sizes[-1]
        self._kept = lru_cache(KEPT)(self._batch)

    def __len__(self) -> int:
        return self._rows

    def entry(self, number: int) -> dict[str, Any]:
        """One picture's columns, as Python values."""
        batch, place = divmod(number, ROWS)
        return self._kept(batch).slice(place, 1).to_pylist()[0]

    def require(self, files: RowFiles, classes: int) -> None:
        """
        Raises:
            DataError: the file is of other rows than `files`, or of more classes.
        """
        said = {key.decode(): value.decode() for key, value in (self.schema.metadata or {}).items()}
        if said.get("rows") != files.digest:
            raise DataError(
                f"{self.path} is of rows with digest {said.get('rows')}, and {files.name} has {files.digest}: its "
                "labels belong to other rows; name the rows that it was made of, or labels by `id`"
            )
        if int(said["classes"]) != classes:
            raise DataError(
                f"{self.path} has {said['classes']} classes, the stage {classes}: set classes, or make it anew"
            )

    def _batch(self, number: int) -> pa.RecordBatch:
        return self._reader.get_batch(number)


def write_pictures(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, files: RowFiles, classes: int) -> int:
    """Write `tables` in place of what is at `path`, one after the other; returns how many pictures they are."""
    schema = schema.with_metadata({"rows": files.digest, "classes": str(classes)})
    count = 0
    with (
        whole_file(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for batch in _in_batches(tables, schema):
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _in_batches(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Of `ROWS` each; at least one."""
    waiting = schema.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table.cast(schema)])
        while len(waiting) >= ROWS:
            yield _batch_of(waiting.slice(0, ROWS))
            waiting = waiting.slice(ROWS)
    yield _batch_of(waiting)


def _batch_of(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema)


def place_columns(rows: np.ndarray, pictures: np.ndarray) -> dict[str, pa.Array]:
    """The columns that say where pictures lie."""
    return {"row": pa.array(rows, pa.int64()), "picture": pa.array(pictures, pa.uint16())}
