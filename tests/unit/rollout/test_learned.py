"""The learner's log-probs beside stored rollouts: of a completion, after a resume and a compaction, and not known."""

from __future__ import annotations

import os
import re
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from pangu_rl.errors import DataError
from rollout.compact import compact
from rollout.learned import LEARNED_SCHEMA, VERSION_KEY
from rollout.store import RolloutStore
from tests.unit.rollout.stored import Answer, Asked, store_of


def learned(run: Path, *steps: int) -> RolloutStore:
    """Of the first of two answers of three tokens: -step each."""
    asked = [Asked(uid="p", answers=[Answer(text="a"), Answer(text="b")])]
    store = store_of(run, dict.fromkeys(steps, asked))
    for step in steps:
        store.learned.append(step, {f"{step - 1}:p/0": np.full(3, -step, np.float32)})
    return store


def names(store: RolloutStore) -> list[str]:
    return sorted(path.name for path in store.learned.directory.iterdir())


def test_what_is_written_is_read_and_the_rest_is_not_known(tmp_path: Path) -> None:
    store = learned(tmp_path, 1, 2)
    store.learned.append(3, {"a": np.array([-0.5, -1.25], np.float32), "b": np.array([-3], np.float32)})
    assert store.learned.read(2, "1:p/0") == [-2.0] * 3
    assert (store.learned.read(3, "a"), store.learned.read(3, "b")) == ([-0.5, -1.25], [-3.0])
    assert store.learned.read(2, "1:p/1") is None and store.learned.read(9, "1:p/0") is None
    assert store.read().to_table()["step"].to_pylist() == [1, 1, 2, 2], "no rows of the rollouts' own"
    assert RolloutStore(tmp_path / "older").learned.read(1, "0:p/0") is None


def test_the_query_of_the_documentation_joins_it_to_the_rollouts(tmp_path: Path) -> None:
    """The sampler's are -0.5, the learner's of step s are -s."""
    learned(tmp_path, 1, 2)
    page = (Path(__file__).parents[3] / "docs" / "store.md").read_text(encoding="utf-8")
    [query] = [text for text in re.findall(r'"""(.*?)"""', page, re.DOTALL) if "rollouts/learner" in text]
    found = duckdb.sql(query.replace("RUN", str(tmp_path))).fetchall()
    assert sorted(found) == [("0:p/0", [-0.5] * 3), ("1:p/0", [-1.5] * 3)]


def test_a_resume_drops_later_steps_also_of_a_compacted_shard(tmp_path: Path) -> None:
    store = learned(tmp_path, 1, 2, 3)
    compact(tmp_path)
    assert names(store) == ["steps_000001-000003.parquet"] and store.learned.read(3, "2:p/0") == [-3.0] * 3
    learned(tmp_path, 4)
    (store.learned.directory / "step_000005.tmp").write_bytes(b"PAR1")
    dropped = store.truncate_after(2)
    assert {path.parent for path in dropped} == {store.directory, store.learned.directory}
    assert names(store) == ["steps_000001-000002.parquet"] and store.steps() == [1, 2]
    assert store.learned.read(2, "1:p/0") == [-2.0] * 3 and store.learned.read(3, "2:p/0") is None


def test_killed_between_a_merged_shard_and_those_it_was_made_of(tmp_path: Path) -> None:
    store = learned(tmp_path, 1, 2)
    before = [path.read_bytes() for path in sorted(store.learned.directory.iterdir())]
    compact(tmp_path)
    for step, content in enumerate(before, start=1):
        (store.learned.directory / f"step_{step:06d}.parquet").write_bytes(content)
    assert store.learned.read(1, "0:p/0") == [-1.0] * 3
    assert compact(tmp_path).leftovers == 2
    assert names(store) == ["steps_000001-000002.parquet"]


def test_a_failed_write_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = learned(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        store.learned.append(1, {"0:p/0": np.zeros(3, np.float32)})
    assert store.learned.read(1, "0:p/0") == [-1.0] * 3


def test_a_newer_or_broken_shard_is_one_line(tmp_path: Path) -> None:
    store = learned(tmp_path, 1)
    path = store.learned.directory / "step_000001.parquet"
    assert pq.read_schema(path).equals(LEARNED_SCHEMA)
    pq.write_table(pq.read_table(path).replace_schema_metadata({VERSION_KEY: b"2"}), path)
    with pytest.raises(DataError, match="rollout schema 2, this version reads 1: use the version"):
        store.learned.read(1, "0:p/0")
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        store.learned.read(1, "0:p/0")
