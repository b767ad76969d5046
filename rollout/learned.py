"""The learner's log-probs of the tokens that engines drew: an update -> **`rollouts/learner/`**, in shards as well.

They are known when the update is done, and the rollouts are on disk before it begins, so they have shards of their own,
one a step, with a row for each completion that was trained on. Stores of before and stages that only sample have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rollout.reading import batches
from rollout.schema import checked_metadata
from rollout.shards import Shard, live_shards, shard_path, write_shard
from rollout.truncation import drop_steps

FOLDER = "learner"
VERSION_KEY = b"pangu_rl.learner_logprobs"
LEARNED_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("completion_uid", pa.string(), nullable=False),
        # Of each token, at the sampling temperature, under the weights before the step's first update.
        pa.field("learner_logprobs", pa.list_(pa.float32()), nullable=False),
    ],
    metadata={VERSION_KEY: "1"},
)


class LearnedTable:
    """Beside the shards of a rollouts folder."""

    def __init__(self, rollouts: Path) -> None:
        self.directory = rollouts / FOLDER

    def append(self, step: int, logprobs: Mapping[str, np.ndarray]) -> None:
        """Write the shard of `step`: completion -> float32 [T]; that of a repeated step is replaced.

        Raises:
            OSError: the disk is full or not writable; what was there stays as it was.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        values = list(logprobs.values())
        ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
        columns = [
            pa.array([step] * len(values), pa.int64()),
            pa.array(list(logprobs), pa.string()),
            pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(values), pa.float32())),
        ]
        write_shard(shard_path(self.directory, step, step), pa.Table.from_arrays(columns, schema=LEARNED_SCHEMA))

    def read(self, step: int, uid: str) -> list[float] | None:
        """[T] of the completion `uid` of `step`; None where it was not trained on, or the store does not know.

        Raises:
            DataError: a shard that is not whole, or of a schema that is newer.
        """
        paths = [shard.path for shard in self.shards() if shard.first <= step <= shard.last]
        wanted = (pc.field("step") == step) & (pc.field("completion_uid") == uid)
        found = batches(paths, ["learner_logprobs"], wanted, LEARNED_SCHEMA) if paths else ()
        return next((row["learner_logprobs"] for batch in found for row in batch.to_pylist()), None)

    def shards(self) -> list[Shard]:
        """Those that count, each looked at, in the order of their steps.

        Raises:
            DataError: as `read`.
        """
        found = live_shards(self.directory)
        for shard in found:
            checked_metadata(shard.path, VERSION_KEY, ("1",))
        return found

    def truncate_after(self, step: int) -> list[Path]:
        """Drop the rows of later steps and half-written files; returns the files that are gone."""
        return drop_steps(self.directory, step, LEARNED_SCHEMA)
