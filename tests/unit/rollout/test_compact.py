"""Compaction keeps the rows and their order, also when it, or a resume after it, is killed at any point."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pangu_rl.checkpoint.run_lock import run_lock
from pangu_rl.errors import ConfigError, DataError
from rollout import compact as compacting
from rollout.compact import compact
from rollout.reading import reading
from rollout.schema import SCHEMA, VERSION_KEY
from rollout.shards import live_shards
from rollout.store import RolloutStore
from tests.unit.rollout.stored import Answer, Asked, old_shard, store_of


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def steps(*numbers: int) -> dict[int, list[Asked]]:
    answers = [Answer(text="a"), Answer(text="b")]
    return {step: [Asked(uid=f"{step}+{n}", answers=answers) for n in (1, 2)] for step in numbers}


def names(store: RolloutStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir())


def test_shards_become_one_with_the_same_rows(tmp_path: Path) -> None:
    store = store_of(tmp_path / "run", steps(1, 2, 4))
    before = store.read().to_table()
    summary = compact(tmp_path / "run")
    assert str(summary) == "run: 12 rows, 3 shards are now 1"
    assert names(store) == ["steps_000001-000004.parquet"]
    assert store.read().to_table().equals(before)
    assert store.steps() == [1, 2, 4]
    assert compact(tmp_path / "run").as_dict()["shards_before"] == 1


def test_large_shards_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path / "run", steps(1, 2, 3, 4, 5))
    size = max(shard.path.stat().st_size for shard in live_shards(store.directory))
    monkeypatch.setattr(compacting, "TARGET_BYTES", 2 * size)
    before = store.read().to_table()
    compact(tmp_path / "run")
    assert names(store) == ["step_000005.parquet", "steps_000001-000002.parquet", "steps_000003-000004.parquet"]
    assert store.read().to_table().equals(before)


def test_a_resume_drops_the_last_steps_of_a_compacted_shard(tmp_path: Path) -> None:
    store = store_of(tmp_path / "run", steps(1, 2, 3))
    compact(tmp_path / "run")
    store_of(tmp_path / "run", steps(4))
    store.truncate_after(2)
    assert names(store) == ["steps_000001-000002.parquet"]
    store_of(tmp_path / "run", steps(3))
    assert store.read().to_table()["step"].to_pylist() == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]


def test_a_compacted_step_is_not_written_beside_itself(tmp_path: Path) -> None:
    store_of(tmp_path / "run", steps(1, 2))
    compact(tmp_path / "run")
    with pytest.raises(DataError, match=r"steps_000001-000002\.parquet holds step 2 already: resume the run"):
        store_of(tmp_path / "run", steps(2))


@pytest.mark.parametrize("version", ["1", "2", "3", "4"])
def test_old_shards_are_read_and_brought_to_the_newest_schema(tmp_path: Path, version: str) -> None:
    store = store_of(tmp_path / "run", steps(1, 2))
    old_shard(store, 1, version)
    rows = store.read().to_table()
    assert rows.schema.equals(SCHEMA)
    assert rows["extra"].to_pylist() == [None if version < "3" else "{}"] * 4 + ["{}"] * 4
    compact(tmp_path / "run")
    [path] = store.directory.iterdir()
    assert pq.read_schema(path).equals(SCHEMA)
    assert pq.read_schema(path).metadata[VERSION_KEY] == b"5"
    assert store.read().to_table().equals(rows)


def test_a_single_old_shard_is_brought_up_in_its_place(tmp_path: Path) -> None:
    store = store_of(tmp_path / "run", steps(7))
    old_shard(store, 7, "1")
    compact(tmp_path / "run")
    assert names(store) == ["step_000007.parquet"]
    assert pq.read_schema(store.directory / "step_000007.parquet").metadata[VERSION_KEY] == b"5"


def killing(monkeypatch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Die at the `at`-th change of the disk; returns the changes made until then."""
    done: list[str] = []

    def dying(name: str, real):
        def call(*args, **kwargs):
            if len(done) == at:
                raise Killed(name)
            done.append(name)
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "fsync", dying("fsync", os.fsync))
    for name in ("rename", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, dying(name, getattr(Path, name)))
    return done


def test_killed_anywhere_in_compaction_every_step_is_read_once(tmp_path: Path) -> None:
    wanted = store_of(tmp_path / "whole" / "run", steps(1, 2, 3)).read().to_table()
    for at in range(100):
        run = tmp_path / f"{at}" / "run"
        store = store_of(run, steps(1, 2, 3))
        with pytest.MonkeyPatch.context() as patched:
            killing(patched, at)
            try:
                compact(run)
            except Killed:
                ended = False
            else:
                ended = True
        assert store.read().to_table().equals(wanted), f"killed at {at}"
        if ended:
            break
        compact(run)
        assert names(store) == ["steps_000001-000003.parquet"], f"compacted after a kill at {at}"
        assert store.read().to_table().equals(wanted)
    assert at >= 6, "fewer points than compaction has"


def test_killed_anywhere_in_a_resume_the_rows_are_those_up_to_a_step(tmp_path: Path) -> None:
    """And the resume after it ends where the first one would have."""
    for at in range(100):
        run = tmp_path / f"{at}" / "run"
        store = store_of(run, steps(1, 2, 3))
        compact(run)
        store_of(run, steps(4, 5))
        with pytest.MonkeyPatch.context() as patched:
            killing(patched, at)
            try:
                store.truncate_after(2)
            except Killed:
                ended = False
            else:
                ended = True
        found = store.read().to_table()["step"].to_pylist()
        assert found in [[step for step in range(1, last + 1) for _ in range(4)] for last in (2, 3, 4, 5)], at
        if ended:
            break
        store.truncate_after(2)
        assert names(store) == ["steps_000001-000002.parquet"], f"resumed after a kill at {at}"
    assert at >= 5


def test_killed_anywhere_in_a_write_the_last_steps_stay(tmp_path: Path) -> None:
    for at in range(100):
        run = tmp_path / f"{at}" / "run"
        store = store_of(run, steps(1))
        with pytest.MonkeyPatch.context() as patched:
            killing(patched, at)
            try:
                store_of(run, steps(2))
            except Killed:
                ended = False
            else:
                ended = True
        assert store.steps() in ([1], [1, 2])
        assert store.read().to_table().num_rows == 4 * len(store.steps())
        if ended:
            break
    assert at >= 3


def test_a_running_run_and_a_reader_keep_compaction_out(tmp_path: Path) -> None:
    run = tmp_path / "run"
    store = store_of(run, steps(1, 2))
    with run_lock(run), pytest.raises(ConfigError, match="is in use by process"):
        compact(run)
    with reading(store.directory):
        with reading(store.directory):
            pass
        with pytest.raises(DataError, match="an export is reading it: try again"):
            compact(run)
    refused = pytest.raises(DataError, match="it is being compacted")
    with reading(store.directory, alone=True), refused, reading(store.directory):
        pass
    assert names(store) == ["step_000001.parquet", "step_000002.parquet"]


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nothing", "nothing: no such run directory"),
        (".", "no run with rollouts; it needs a folder rollouts/"),
        ("run/rollouts", "rollouts: no run with rollouts; name the run's folder, .*run"),
        ("iterative", r"iterative: no run with rollouts; those of its rounds lie in .*/round_001/samples: name these"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, folder: str, message: str) -> None:
    store_of(tmp_path / "run", steps(1))
    store_of(tmp_path / "iterative" / "round_001" / "samples", steps(1))
    with pytest.raises(DataError, match=message):
        compact(tmp_path / folder)


def test_a_reader_of_one_row_group_holds_few_rows(tmp_path: Path) -> None:
    asked = [Asked(uid=str(n), answers=[Answer(text="a")] * 10) for n in range(250)]
    store = store_of(tmp_path / "run", {1: asked, 2: asked})
    compact(tmp_path / "run")
    [fragment] = ds.dataset(str(store.directory / "steps_000001-000002.parquet")).get_fragments()
    assert max(group.num_rows for group in fragment.row_groups) < 2100
