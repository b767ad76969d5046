"""An index on disk, opened: **row number -> where it lies**; id -> row number; the rows of a source.

Nothing is read but the manifest until a row is asked for; every process maps the same pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from pangu_rl.data.index.ids import bucket_of
from pangu_rl.data.index.manifest import Manifest, Problem
from pangu_rl.data.index.reading import Place
from pangu_rl.data.index.shards import hash_of, ids_file, read_columns, shard_file

KEPT = 256
"""Files of the index that a process keeps mapped."""


class RowIndex:
    """N rows."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.paths = tuple((folder / file.path).resolve() for file in manifest.files)
        self._starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])
        self._columns = lru_cache(KEPT)(read_columns)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def sources(self) -> dict[str, int]:
        """Rows of each source."""
        counts: Counter[str] = Counter()
        for shard in self.manifest.shards:
            counts.update(shard.sources)
        return {name: count for name, count in counts.items() if count}

    def place(self, row: int) -> Place:
        number, local = self._find(row)
        shard, columns = self.manifest.shards[number], self.shard(number)
        return Place(self.paths[shard.file], shard.first + int(columns["number"][local]), int(columns["start"][local]))

    def source(self, row: int) -> str:
        number, local = self._find(row)
        return list(self.manifest.shards[number].sources)[self.shard(number)["source"][local]]

    def has_id(self, row: int, uid: str) -> bool:
        """Whether `uid` is the id that the row was indexed by."""
        number, local = self._find(row)
        return int(self.shard(number)["id_hash"][local]) == hash_of(uid)

    def rows_of(self, uids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Of ids [n]: int64 the row with its hash, -1 where there is none, and bool whether others have that hash."""
        hashes = np.array([hash_of(uid) for uid in uids], np.uint64)
        rows, shared = np.full(len(hashes), -1, np.int64), np.zeros(len(hashes), bool)
        files = bucket_of(hashes, self.manifest.id_bits)
        for number in np.unique(files).tolist():
            mine = np.flatnonzero(files == number)
            ids = self._columns(ids_file(self.folder, number))
            begin, end = (np.searchsorted(ids["id_hash"], hashes[mine], side) for side in ("left", "right"))
            there = end > begin
            rows[mine[there]], shared[mine] = ids["row"][begin[there]], end > begin + 1
        return rows, shared

    def rows_alike(self, uid: str) -> list[int]:
        """The rows whose ids have the hash of `uid`."""
        hashes = np.array([hash_of(uid)], np.uint64)
        ids = self._columns(ids_file(self.folder, int(bucket_of(hashes, self.manifest.id_bits)[0])))
        begin, end = (int(np.searchsorted(ids["id_hash"], hashes[0], side)) for side in ("left", "right"))
        return ids["row"][begin:end].tolist()

    def named(self, problem: Problem) -> str:
        """File, row and reason of one that is left out."""
        return f"{self.paths[problem.file]}, row {problem.number}: {problem.reason}"

    def of_source(self, name: str) -> SourceRows:
        """The rows of one source, in order."""
        return SourceRows(self, name)

    def under(self, path: Path) -> range:
        """The rows of a file, or of all files of a folder, that the index was made of; they stand together."""
        root = path.resolve()
        shards = [n for n, shard in enumerate(self.manifest.shards) if self.paths[shard.file].is_relative_to(root)]
        return range(int(self._starts[shards[0]]), int(self._starts[shards[-1] + 1])) if shards else range(0)

    def shard(self, number: int) -> dict[str, np.ndarray]:
        """The columns of one shard, memory-mapped."""
        return self._columns(shard_file(self.folder, number))

    def first_row(self, shard: int) -> int:
        return int(self._starts[shard])

    def _find(self, row: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return number, row - int(self._starts[number])


class SourceRows(Sequence[int]):
    """Numbers of the rows of one source; what is held is a count per shard."""

    def __init__(self, index: RowIndex, name: str) -> None:
        self._index, self._name = index, name
        self._starts = np.cumsum([0, *(shard.sources.get(name, 0) for shard in index.manifest.shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, place: int) -> int:  # type: ignore[override]
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        shard = self._index.manifest.shards[number]
        before = 0
        for name, rows in shard.sources.items():
            if name == self._name:
                break
            before += rows
        local = int(self._index.shard(number)["by_source"][before + place - int(self._starts[number])])
        return self._index.first_row(number) + local
