"""Files of the index: **one batch of Arrow each, uncompressed**, so that they are read where they lie.

rows-*.arrow    id_hash uint64, number uint32 (within the range, from 1), start uint64 (byte of the line in a JSONL
                file), source int32 (the shard's own code), by_source uint32 (rows ordered by source)
ids-*.arrow     id_hash uint64, sorted, row int64
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from pangu_rl.whole_file import whole_file

NAMED = 1000
"""Rows of a range that are named when they are left out; all are counted."""
COLUMN_TYPES = {"id_hash": np.dtype("uint64"), "number": np.dtype("uint32")} | {
    "start": np.dtype("uint64"),
    "source": np.dtype("int32"),
}


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
    digest: str = ""

    def leave_out(self, number: int, reason: str) -> None:
        self.left_out += 1
        if len(self.problems) < NAMED:
            self.problems.append((number, reason))


def hash_of(uid: str) -> int:
    """64 bits."""
    return xxhash.xxh3_64_intdigest(uid.encode())


def write_shard(shard: Path, columns: Mapping[str, np.ndarray], found: Found) -> None:
    """Write the rows of `columns`, and fill in what is counted of them."""
    found.rows = len(columns["id_hash"])
    found.digest = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(columns["id_hash"]))
    counts = np.bincount(columns["source"], minlength=len(found.sources)).tolist()
    found.sources = dict(zip(found.sources, counts, strict=True))
    by_source = np.argsort(columns["source"], kind="stable").astype(np.uint32)
    write_columns(shard, {**columns, "by_source": by_source})
    order = np.argsort(columns["id_hash"], kind="stable").astype(np.uint32)
    np.save(hashes_of(shard), columns["id_hash"][order])
    np.save(order_of(shard), order)


def shard_file(folder: Path, number: int) -> Path:
    """The rows of one range."""
    return folder / f"rows-{number:05d}.arrow"


def ids_file(folder: Path, number: int) -> Path:
    """The ids whose hashes have the same first bits."""
    return folder / f"ids-{number:05d}.arrow"


def hashes_of(shard: Path) -> Path:
    """uint64 [N], sorted; there while the index is built."""
    return shard.with_suffix(".hashes.npy")


def order_of(shard: Path) -> Path:
    """uint32 [N], the row in the shard that each of the sorted hashes is of."""
    return shard.with_suffix(".order.npy")


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """An Arrow file of one batch, in the place of what is there."""
    batch = pa.record_batch([pa.array(column) for column in columns.values()], names=list(columns))
    with (
        whole_file(path) as partial,  # readers may have the old one mapped
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of such a file, memory-mapped."""
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    return {name: batch.column(name).to_numpy(zero_copy_only=True) for name in batch.schema.names}
