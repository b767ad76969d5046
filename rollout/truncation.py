"""A resume draws the steps after its checkpoint again: a folder of shards -> **one without those steps**."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pangu_rl.whole_file import flush
from rollout.reading import batches
from rollout.shards import Shard, live_shards, shard_path, superseded, writing_shard


def drop_steps(directory: Path, after: int, schema: pa.Schema) -> list[Path]:
    """Drop the rows of the steps `after` one, superseded shards and half-written ones; returns the files that are gone.

    A kill in the midst of it leaves the rows up to some later step, whole.
    """
    dropped = [*superseded(directory), *directory.glob("step*_*.tmp")]
    for path in dropped:
        path.unlink()
    for shard in reversed(live_shards(directory)):
        if shard.last <= after:
            break
        if shard.first <= after:
            _write_until(after, shard, schema)
        shard.path.unlink()
        dropped.append(shard.path)
    if dropped:
        flush(directory)
    return dropped


def _write_until(step: int, shard: Shard, schema: pa.Schema) -> None:
    """The first steps of a compacted shard as one of their own, which counts once the wider one is gone."""
    with writing_shard(shard_path(shard.path.parent, shard.first, step), schema) as writer:
        for batch in batches([shard.path], rows=pc.field("step") <= step, schema=schema):
            writer.write_batch(batch)
