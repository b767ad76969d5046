"""Ids of the rows that are left -> **each is there once**: the second row of an id gets `id~2`, as in an export.

Shards are written side by side, so only hashes of ids meet, 8 bytes a row; a shard with a doubled one is written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xxhash

from data_curation.pipeline.folder import Folder, read_lines, write_array, write_lines


def write_ids(path: Path, uids: Sequence[str]) -> None:
    """Their hashes, uint64 [rows of the shard]."""
    write_array(path, np.fromiter(map(_hash, uids), np.uint64, len(uids)))


def number_doubled_ids(folder: Folder, stage: int, blocks: int) -> int:
    """Of all shards, which `stage`, the last one, has written, in their order; returns how many rows are another's
    double. Done once more, also behind a kill, it changes nothing."""
    shards = [np.load(folder.ids(stage, number), allow_pickle=False) for number in range(blocks)]
    hashes = np.concatenate(shards)
    order = np.argsort(hashes, kind="stable")
    known = hashes[order]
    ranks = np.empty(len(hashes), np.int64)
    ranks[order] = np.arange(len(hashes)) - np.searchsorted(known, known) + 1
    given: set[str] = set()
    ends = np.cumsum([len(shard) for shard in shards])
    for number, some in enumerate(np.split(ranks, ends[:-1])):
        if (some > 1).any():
            _number(folder.rows(stage, number, last=True), shards[number], some, known, given)
    return int((ranks > 1).sum())


def _number(shard: Path, hashes: np.ndarray, ranks: np.ndarray, known: np.ndarray, given: set[str]) -> None:
    """`known` are the hashes of all ids, sorted, and `given` the names that doubled ones got, which grow."""
    rows = list(read_lines(shard))
    for row, digest, rank in zip(rows, hashes.tolist(), ranks.tolist(), strict=True):
        if rank == 1:
            continue
        if _hash(row["id"]) == digest:  # else it has its name already
            row["id"] = _free(row["id"], rank, known, given)
        given.add(row["id"])
    write_lines(shard, rows)


def _free(uid: str, rank: int, known: np.ndarray, given: set[str]) -> str:
    while (name := f"{uid}~{rank}") in given or known[np.searchsorted(known, _hash(name)) % len(known)] == _hash(name):
        rank += 1
    return name


def _hash(uid: str) -> np.uint64:
    return np.uint64(xxhash.xxh3_64_intdigest(uid.encode()))
