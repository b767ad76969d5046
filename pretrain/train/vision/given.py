"""Labels and regions that were made elsewhere, by the rows' ids -> **by the numbers of the rows**, a batch at a time.

Parquet, a file or a folder of files: `id` of a row of `data.train`, `picture` (which of its `images`, from 0; without
the column the first), and what is said of the picture. All of a row stand together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.data.index.files import parquet_file, row_files
from pangu_rl.errors import DataError
from pretrain.train.vision.picture_file import REGION, place_columns

BATCH = 2**18
REGION_COLUMNS = ("box", "text", "labels", "confidence")
TYPES = {
    "id": pa.string(),
    "picture": pa.int64(),
    "box": pa.list_(pa.float64()),
    "text": pa.string(),
    "labels": pa.list_(pa.int64()),
    "confidence": pa.float64(),
}
MOST_PICTURES = 2**16
"""Of a row."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Lines of one file, which begin and end with a whole row of `data.train`."""

    file: Path
    first: int
    """Of the file, from 0."""
    table: pa.Table
    rows: np.ndarray
    """int64 [N], of `data.train`."""
    pictures: np.ndarray
    """int64 [N]"""

    def where(self, line: int) -> str:
        return f"{self.file}, row {self.first + line + 1}"

    def refuse(self, wrong: np.ndarray, reason: str) -> None:
        """
        Raises:
            DataError: a line is `wrong` [N]; the first is named.
        """
        if wrong.any():
            line = int(wrong.argmax())
            said = {name: self.table[name][line].as_py() for name in self.table.column_names}
            raise DataError(f"{self.where(line)}: {reason.format(**said)}")


def given_labels(path: Path, config: VisionStageConfig, files: RowFiles) -> Iterator[pa.Table]:
    """Tables of `labels_schema`.

    Raises:
        DataError: no such files, other columns or types, an id that no row has, or a second time, a picture that is no
            number, another number of labels, or a class that does not exist.
    """
    for batch in _batches(path, ("labels",), "data.labels", files):
        same = np.zeros(len(batch.rows), bool)
        same[1:] = (batch.rows[1:] == batch.rows[:-1]) & (batch.pictures[1:] <= batch.pictures[:-1])
        batch.refuse(same, "id {id!r} has labels of that picture already, or its pictures are not in order")
        wanted = f"{config.labels} of 0 to {config.classes - 1}"
        column = batch.table["labels"].combine_chunks()
        wrong = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False) != config.labels
        batch.refuse(wrong, f"labels {{labels}}, the stage wants {wanted}")
        flat = column.flatten()
        batch.refuse(
            _strange(flat, config.classes).reshape(-1, config.labels).any(1),
            f"labels {{labels}}, the stage wants {wanted}",
        )
        labels = pa.FixedSizeListArray.from_arrays(flat.cast(pa.int32()), config.labels)
        yield pa.table({**place_columns(batch.rows, batch.pictures), "labels": labels})


def given_regions(path: Path, config: VisionStageConfig, files: RowFiles) -> Iterator[pa.Table]:
    """Tables of `REGIONS_SCHEMA`; raises as `given_labels`, also for a region that is neither object nor line, and for
    a box that is not within its picture."""
    for batch in _batches(path, REGION_COLUMNS, "regions.file", files):
        turned = np.zeros(len(batch.rows), bool)
        turned[1:] = (batch.rows[1:] == batch.rows[:-1]) & (batch.pictures[1:] < batch.pictures[:-1])
        batch.refuse(turned, "the pictures of id {id!r} are not in order")
        columns = [batch.table[name].combine_chunks() for name in REGION_COLUMNS]
        box, text, labels, confidence = columns
        both = text.is_null().to_numpy(zero_copy_only=False) == labels.is_null().to_numpy(zero_copy_only=False)
        batch.refuse(both, "a region has text (a line) or labels (an object), and not both")
        corners = pc.fill_null(pc.list_value_length(box), -1).to_numpy(zero_copy_only=False) != 4
        batch.refuse(corners, "box {box}, it has four sides")
        sides = box.flatten()
        batch.refuse(
            _outside(sides),
            "box {box}, its sides are shares of the picture's, 0 <= left < right <= 1 and 0 <= top < bottom <= 1: "
            "divide pixels by the picture's width and height",
        )
        strange = np.zeros(len(batch.rows), bool)
        strange[pc.list_parent_indices(labels).to_numpy()[_strange(labels.flatten(), config.classes)]] = True
        batch.refuse(strange, f"labels {{labels}}, the classes are 0 to {config.classes - 1}")
        boxes = pa.FixedSizeListArray.from_arrays(sides, 4)
        kinds = [boxes, text, labels.cast(pa.list_(pa.int32())), confidence.fill_null(1.0)]
        regions = pa.StructArray.from_arrays(kinds, fields=list(REGION))
        news = (np.diff(batch.rows) != 0) | (np.diff(batch.pictures) != 0)
        starts = np.concatenate([[0], np.flatnonzero(news) + 1])
        offsets = pa.array(np.append(starts, len(batch.rows)), pa.int32())
        lists = pa.ListArray.from_arrays(offsets, regions)
        yield pa.table({**place_columns(batch.rows[starts], batch.pictures[starts]), "regions": lists})


def _batches(path: Path, columns: Sequence[str], key: str, files: RowFiles) -> Iterator[_Batch]:
    seen = np.zeros(len(files), bool)
    for file in row_files([path]):
        first, left = 0, None
        for table in _tables(file, columns, key):
            if left is not None:
                table = pa.concat_tables([left, table])
            end = _last_row(table)
            left = table.slice(end)
            if end:
                yield _found(file, first, table.slice(0, end), files, seen)
            first += end
        if left is not None and len(left):
            yield _found(file, first, left, files, seen)


def _tables(file: Path, columns: Sequence[str], key: str) -> Iterator[pa.Table]:
    with parquet_file(file) as opened:
        there = set(opened.schema_arrow.names)
        if missing := {"id", *columns} - there:
            raise DataError(
                f"{key} {file}: no column {', '.join(sorted(missing))}: it has the id of a row of data.train, and "
                f"{', '.join(columns)}"
            )
        for batch in opened.iter_batches(BATCH, columns=["id", *({"picture"} & there), *columns]):
            table = pa.Table.from_batches([batch])
            kinds = [(name, _as_kind(table[name], name, f"{key} {file}")) for name in table.column_names]
            yield pa.table(dict(kinds))


def _as_kind(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    try:
        return column.cast(TYPES[name])
    except pa.ArrowException as error:
        raise DataError(
            f"{where}: column {name} holds {column.type}, not {TYPES[name]}: {str(error).splitlines()[0]}"
        ) from None


def _last_row(table: pa.Table) -> int:
    """Where the lines of the last id begin."""
    ids, end = table["id"], len(table) - 1
    while end and ids[end - 1] == ids[end]:
        end -= 1
    return max(end, 0)


def _found(file: Path, first: int, table: pa.Table, files: RowFiles, seen: np.ndarray) -> _Batch:
    """Which rows the lines are of; marks them as `seen`."""
    ids = table["id"].fill_null("").to_pylist()
    rows = files.rows_of(ids)
    named = table["picture"] if "picture" in table.column_names else pa.chunked_array([np.zeros(len(table), np.int64)])
    batch = _Batch(file, first, table, rows, named.fill_null(-1).to_numpy())
    strange = (batch.pictures < 0) | (batch.pictures >= MOST_PICTURES)
    batch.refuse(strange, f"picture {{picture}}, those of a row are numbered from 0 to {MOST_PICTURES - 1}")
    batch.refuse(rows < 0, f"id {{id!r}} is of no row of {files.name}: it belongs to other rows")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(rows)) + 1])
    again = np.zeros(len(rows), bool)
    again[starts] = seen[rows[starts]]
    _, once = np.unique(rows[starts], return_index=True)
    again[np.delete(starts, once)] = True
    batch.refuse(again, "id {id!r} stands there a second time: all lines of a row stand together")
    seen[rows] = True
    return batch


def _outside(sides: pa.Array) -> np.ndarray:
    """bool [N] of 4 N sides: which boxes have no area, or lie outside of their pictures."""
    left, top, right, bottom = sides.fill_null(np.nan).to_numpy(zero_copy_only=False).reshape(-1, 4).T
    return ~((left >= 0) & (left < right) & (right <= 1) & (top >= 0) & (top < bottom) & (bottom <= 1))


def _strange(labels: pa.Array, classes: int) -> np.ndarray:
    """bool: which are no classes."""
    values = pc.fill_null(labels, -1).to_numpy(zero_copy_only=False)
    return (values < 0) | (values >= classes)
