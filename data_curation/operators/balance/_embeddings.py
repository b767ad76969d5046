"""Embeddings that an operator noted -> **vectors of all rows in a mapped file**, and their clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_curation.pipeline.operator import Features
from data_curation.pipeline.record import Record
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.errors import DataError
from pretrain.contrastive.kmeans import HereShards, fit, labels_of


def noted_vector(record: Record, noted_by: str) -> bytes | None:
    """float32; None of a row that `noted_by` left without one.

    Raises:
        BadRow: no numbers, or one that is not finite: it would make its whole cluster so.
    """
    noted = (record.notes.get(noted_by) or {}).get("embedding")
    if noted is None:
        return None
    with np.errstate(over="ignore"):
        vector = np.asarray(noted, np.float32)
    if vector.ndim != 1 or not vector.size:
        raise BadRow(f"curation.{noted_by}.embedding is no list of numbers")
    if not (finite := np.isfinite(vector)).all():
        raise BadRow(f"curation.{noted_by}.embedding[{finite.argmin()}] is no finite number of 32 bits")
    return vector.tobytes()


def read_vectors(rows: Features, columns: str) -> tuple[pa.Table, np.ndarray]:
    """The `columns`, of which `vector` is the last and goes to a mapped file: the others, and float32 [N, D].

    Raises:
        DataError: vectors of two lengths.
    """
    tables, width = [], 0
    file = Path(rows.scratch) / "vectors.f32"
    with file.open("wb") as written:
        for table in rows.tables(columns):
            vectors = table["vector"].to_pylist()
            width = width or len(vectors[0])
            if other := next((len(vector) for vector in vectors if len(vector) != width), None):
                raise DataError(
                    f"embeddings have {width // 4} numbers, and one has {other // 4}: one encoder gives all of one "
                    "length"
                )
            written.write(b"".join(vectors))
            tables.append(table.drop_columns(["vector"]))
    if not tables:
        empty = {name.strip(): pa.array([], pa.int64()) for name in columns.split(",") if name.strip() != "vector"}
        return pa.table(empty), np.zeros((0, 1), np.float32)
    return pa.concat_tables(tables), np.memmap(file, np.float32, "r").reshape(-1, width // 4)


class Some:
    """Some rows of mapped points, read when they are wanted."""

    def __init__(self, points: np.ndarray, numbers: np.ndarray) -> None:
        self._points, self._numbers = points, numbers
        self.shape = (len(numbers), points.shape[1])

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return self._points[self._numbers[places]]


def clustered(points: Any, clusters: int, seed: int) -> np.ndarray:
    """The cluster of each point, int64 [N]."""
    shards = HereShards(clusters, points.shape[1])
    fit(shards, points, clusters, seed=seed)
    return np.concatenate([found[:, 0].numpy() for found in labels_of(shards, points, 1)])
