"""Reading a rollouts folder while others may write in it: **batches in order**, and a guard against what changes.

A run only adds shards, so a list of them stays right. Two things take shards away: compaction, which waits for no one
and is kept out by a lock, and a resume, which must not wait for a reader and is therefore found out at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pangu_rl.errors import DataError
from pangu_rl.storage.file_lock import lock
from rollout.footers import identity
from rollout.schema import SCHEMA
from rollout.shards import ROW_GROUP, Shard


def require_run(run_dir: Path) -> None:
    """Raises `DataError` where there is no run with rollouts, with what a user can do about it."""
    if not run_dir.is_dir():
        raise DataError(f"{run_dir}: no such run directory")
    if not (run_dir / "rollouts").is_dir():
        raise DataError(f"{run_dir}: no run with rollouts; {_where_they_lie(run_dir)}")


def _where_they_lie(folder: Path) -> str:
    if folder.name == "rollouts" and list(folder.glob("step*.parquet")):
        return f"name the run's folder, {folder.parent}"
    if rounds := sorted(str(path.parent) for path in folder.glob("round_*/samples/rollouts")):
        return f"those of its rounds lie in {', '.join(rounds[:4])}: name these"
    return "it needs a folder rollouts/"


@contextmanager
def reading(directory: Path, *, alone: bool = False) -> Iterator[None]:
    """Keep compaction out of `directory` while it is read; `alone` is for compaction itself, which keeps readers out.

    Raises:
        DataError: the other one is at work.
        ConfigError: as `lock`.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        if not lock(descriptor, directory, shared=not alone):
            other = "an export is reading it" if alone else "it is being compacted"
            raise DataError(f"{directory}: {other}: try again when that is done")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def unchanged(shards: Sequence[Shard]) -> Iterator[None]:
    """Raises `DataError` if one of `shards` is replaced or removed meanwhile, as a resume does with its last steps."""
    before = [identity(shard.path) for shard in shards]
    try:
        yield
    finally:
        for shard, found in zip(shards, before, strict=True):
            if identity(shard.path) != found:
                raise DataError(f"{shard.path}: the run was resumed while it was read: do it again")


def batches(
    paths: Sequence[Path],
    columns: list[str] | dict[str, pc.Expression] | None = None,
    rows: pc.Expression | None = None,
    schema: pa.Schema = SCHEMA,
) -> Iterator[pa.RecordBatch]:
    """All rows of the shards `paths`, in order, in the newest schema, a bounded number at a time."""
    dataset = ds.dataset([str(path) for path in paths], schema=schema, format="parquet")
    return dataset.to_batches(
        columns=columns, filter=rows, batch_size=ROW_GROUP, batch_readahead=2, fragment_readahead=1
    )
