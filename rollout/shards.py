"""Which files of a rollouts folder count. Folder -> **shards in the order of their steps**.

    step_000012.parquet              one step, as the run writes it
    steps_000001-000100.parquet      what `pangu-rl compact` made of a range of them

A shard within the range of another is superseded: a kill came between the writing of the wider one and the removal of
those it was made from. So each step counts once, whatever was interrupted. Half-written files end in `.tmp`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.errors import DataError
from pangu_rl.whole_file import flush

ROW_GROUP = 1024
"""Rows that a reader must hold at once."""
_NAME = re.compile(r"steps?_(\d{6,})(?:-(\d{6,}))?\.parquet")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """The rollouts of the steps from `first` to `last`, some of which may have none."""

    first: int
    last: int
    path: Path

    def covers(self, other: Shard) -> bool:
        return self != other and self.first <= other.first and other.last <= self.last

    def steps(self) -> list[int]:
        """Steps that it has rows of."""
        if self.first == self.last:
            return [self.first]
        return sorted(set(pq.read_table(self.path, columns=["step"])["step"].to_pylist()))


def shard_path(directory: Path, first: int, last: int) -> Path:
    name = f"step_{first:06d}" if first == last else f"steps_{first:06d}-{last:06d}"
    return directory / f"{name}.parquet"


def live_shards(directory: Path) -> list[Shard]:
    """The shards that count, in order.

    Raises:
        DataError: two shards share some steps and neither covers the other.
    """
    live, _ = _counted(directory)
    for before, after in itertools.pairwise(live):
        if after.first <= before.last:
            raise DataError(f"{after.path}: holds steps that {before.path.name} holds too: one of them is a stranger")
    return live


def superseded(directory: Path) -> list[Path]:
    """Shards that a wider one has replaced."""
    return [shard.path for shard in _counted(directory)[1]]


def _counted(directory: Path) -> tuple[list[Shard], list[Shard]]:
    """All shards in order: those that count, and those that a wider one has replaced."""
    matches = ((_NAME.fullmatch(path.name), path) for path in directory.glob("step*_*.parquet"))
    found = sorted(Shard(int(name[1]), int(name[2] or name[1]), path) for name, path in matches if name)
    wide = [shard for shard in found if shard.first < shard.last]
    live, replaced = [], []
    for shard in found:
        (replaced if any(other.covers(shard) for other in wide) else live).append(shard)
    return live, replaced


@contextmanager
def writing_shard(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A writer of `path`, which appears under its name when everything is on disk.

    Raises:
        OSError: the disk is full or not writable; what was there stays as it was.
    """
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            yield writer
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    flush(path.parent)


def write_shard(path: Path, table: pa.Table) -> None:
    """Write `table` as the shard `path`, whole or not at all."""
    with writing_shard(path, table.schema) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP)
