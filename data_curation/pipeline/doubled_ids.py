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
    paths = [folder.ids(stage, number) for number in range(blocks)]
    known = np.concatenate([np.load(path, allow_pickle=False) for path in paths])
    known.sort()
    seen = dict.fromkeys(known[1:][known[1:] == known[:-1]].tolist(), 0)
    if not seen:
        return 0
    doubled, given, renamed = np.fromiter(seen, np.uint64, len(seen)), set[str](), 0
    for number, path in enumerate(paths):
        hashes = np.load(path, allow_pickle=False)
        ranks: dict[int, int] = {}
        for place in np.flatnonzero(np.isin(hashes, doubled)).tolist():
            digest = int(hashes[place])
            seen[digest] += 1
            if seen[digest] > 1:
                ranks[place] = seen[digest]
        if ranks:
            _number(folder.rows(stage, number, last=True), hashes, ranks, known, given)
        renamed += len(ranks)
    return renamed


def _number(shard: Path, hashes: np.ndarray, ranks: dict[int, int], known: np.ndarray, given: set[str]) -> None:
    """`ranks` are of the doubled rows of the shard, by place; `known` the hashes of all ids, sorted, and `given` the
    names that doubled ones got, which grow."""
    rows = list(read_lines(shard))
    for place, rank in ranks.items():
        row = rows[place]
        if _hash(row["id"]) == hashes[place]:  # else it has its name already
            row["id"] = _free(row["id"], rank, known, given)
        given.add(row["id"])
    write_lines(shard, rows)


def _free(uid: str, rank: int, known: np.ndarray, given: set[str]) -> str:
    while (name := f"{uid}~{rank}") in given or known[np.searchsorted(known, _hash(name)) % len(known)] == _hash(name):
        rank += 1
    return name


def _hash(uid: str) -> np.uint64:
    return np.uint64(xxhash.xxh3_64_intdigest(uid.encode()))
