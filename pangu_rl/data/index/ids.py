"""Hashes of ids in every shard, sorted -> **all of them, sorted, in files of 4M**: which row has an id, and which share
one.

A file takes those with the same first bits: each is read, sorted and written once, so the work grows with the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pangu_rl.data.index.shards import hashes_of, ids_file, order_of, write_columns

ROWS = 2**22
"""Of a file of ids, about."""


def bits_for(rows: int) -> int:
    """Of the hash that tell the files of `rows` ids apart."""
    return max(0, -(-rows // ROWS) - 1).bit_length()


def bucket_of(hashes: np.ndarray, bits: int) -> np.ndarray:
    """Number of the file of each hash, int64 [N]."""
    if not bits:
        return np.zeros(len(hashes), np.int64)
    return (hashes >> np.uint64(64 - bits)).astype(np.int64)


def sort_bucket(folder: Path, number: int, bits: int, shards: Sequence[tuple[Path, int]]) -> np.ndarray:
    """Write one file of ids of the `shards`, (path, number of its first row) each.

    Returns int64 [K, 2], rows of one hash: the first of them and each later one.
    """
    bounds = [number << (64 - bits), (number + 1) << (64 - bits)]
    hashes, rows = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for path, first in shards:
        mine = np.load(hashes_of(path), mmap_mode="r")
        begin, end = (np.searchsorted(mine, np.uint64(bound)) if bound < 2**64 else len(mine) for bound in bounds)
        hashes.append(mine[begin:end])
        rows.append(np.load(order_of(path), mmap_mode="r")[begin:end].astype(np.int64) + first)
    columns = {"id_hash": np.concatenate(hashes), "row": np.concatenate(rows)}
    order = np.argsort(columns["id_hash"], kind="stable")  # so rows of one hash stay in their order
    columns = {name: column[order] for name, column in columns.items()}
    write_columns(ids_file(folder, number), columns)
    return np.array(list(_equal(**columns)), np.int64).reshape(-1, 2)


def _equal(id_hash: np.ndarray, row: np.ndarray) -> Iterator[tuple[int, int]]:
    later = np.flatnonzero(id_hash[1:] == id_hash[:-1]) + 1
    firsts = np.searchsorted(id_hash, id_hash[later])
    return zip(row[firsts].tolist(), row[later].tolist(), strict=True)
