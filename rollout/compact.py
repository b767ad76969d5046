"""`pangu-rl compact RUN`: many small shards -> **few large ones of the newest schema**. The rows and their order stay.

A merged shard counts from the moment it has its name, and those it was made from go afterwards: a kill at any point
leaves each step once, for our readers. A tool that globs `*.parquet` sees steps twice between the two, so it reads
before or after. A run that is going on, and an export that is reading, are not disturbed: the command refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pangu_rl.checkpoint.run_lock import run_lock
from pangu_rl.errors import DataError
from pangu_rl.whole_file import flush
from rollout.learned import LEARNED_SCHEMA
from rollout.reading import batches, reading, require_run
from rollout.schema import SCHEMA, SCHEMA_VERSION, checked_metadata, version_of
from rollout.shards import ROW_GROUP, Shard, shard_path, superseded, writing_shard
from rollout.store import RolloutStore

TARGET_BYTES = 512 * 2**20
"""Shards are merged as long as their files together have no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What compaction did."""

    run: str
    shards_before: int
    shards_after: int
    rows: int
    leftovers: int
    """Files of an interrupted write or compaction that were removed."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        rest = f"; {self.leftovers} leftover files removed" if self.leftovers else ""
        return f"{self.run}: {self.rows} rows, {self.shards_before} shards are now {self.shards_after}{rest}"


def compact(run_dir: Path) -> Summary:
    """Merge the shards of a run and bring old ones to the newest schema.

    Raises:
        DataError: no such run, no rollouts, a shard that cannot be read, a reader at work, or no room on the disk.
        ConfigError: the run is going on.
    """
    require_run(run_dir)
    store = RolloutStore(run_dir)
    with run_lock(run_dir), reading(store.directory, alone=True):
        before, learned = store.shards(), store.learned.shards()
        folders = (store.directory, store.learned.directory)
        leftovers = [path for folder in folders for path in (*superseded(folder), *folder.glob("step*_*.tmp"))]
        for path in leftovers:
            path.unlink()
        try:
            for shards in _neighbours(before):
                if len(shards) > 1 or version_of(checked_metadata(shards[0].path)) != SCHEMA_VERSION:
                    _replace(shards, SCHEMA)
            for shards in _neighbours(learned):
                if len(shards) > 1:
                    _replace(shards, LEARNED_SCHEMA)
        except OSError as error:
            raise DataError(f"{store.directory}: {error.strerror or error}; its rows are as they were") from None
        after = store.shards()
    rows = sum(checked_metadata(shard.path).num_rows for shard in after)
    return Summary(
        run=store.run, shards_before=len(before), shards_after=len(after), rows=rows, leftovers=len(leftovers)
    )


def _neighbours(shards: list[Shard]) -> Iterator[list[Shard]]:
    """Those that become one shard."""
    group: list[Shard] = []
    size = 0
    for shard in shards:
        more = shard.path.stat().st_size
        if group and size + more > TARGET_BYTES:
            yield group
            group, size = [], 0
        group.append(shard)
        size += more
    if group:
        yield group


def _replace(shards: list[Shard], schema: pa.Schema) -> None:
    directory = shards[0].path.parent
    target = shard_path(directory, shards[0].first, shards[-1].last)
    with writing_shard(target, schema) as writer:
        pending: list[pa.RecordBatch] = []
        for batch in batches([shard.path for shard in shards], schema=schema):
            pending.append(batch)
            if sum(part.num_rows for part in pending) >= ROW_GROUP:
                writer.write_table(pa.Table.from_batches(pending))
                pending = []
        if pending:
            writer.write_table(pa.Table.from_batches(pending))
    for shard in shards:
        if shard.path != target:
            shard.path.unlink()
    flush(directory)
