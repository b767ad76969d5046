"""Ranges of rows over Ray Data: the tables of one process, in order, and its errors."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pangu_rl.accelerators import ACCELERATORS, Accelerator
from pangu_rl.cluster import ranges
from pangu_rl.cluster.mapping import LOST
from pangu_rl.cluster.ranges import Work, ranges_of, tables_of
from pangu_rl.config.sections.trainer import ClusterConfig
from pangu_rl.errors import ConfigError, DataError, Preempted, RunError
from pretrain.train.measure import write_sizes
from tests.small_ray import all_taken, sigterm_when_told, small_ray
from tests.unit.pretrain.train.builders import stage, write_rows

CLUSTER = ClusterConfig()


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    with small_ray(devices=2):
        yield


def squares() -> Work:
    """The first range takes longest, so that tables end out of order."""

    def work(rows: range) -> pa.Table:
        time.sleep(1.0 if rows.start == 0 else 0.0)
        return pa.table({"row": list(rows), "square": [row**2 for row in rows], "pid": [os.getpid()] * len(rows)})

    return work


def test_ranges_cover_every_row_once_and_are_not_too_many() -> None:
    for count in (0, 1, 512, 513, 10_000_000):
        found = ranges_of(count)
        assert sum(map(len, found)) == count and len(found) <= 8192
        assert all(one.stop == other.start for one, other in itertools.pairwise(found))


@pytest.mark.parametrize(("taken", "accelerator"), [("CPU", None), ("GPU", ACCELERATORS["cuda"])])
def test_what_another_job_holds_is_waited_for_with_a_word_until_sigterm(
    small: None, caplog: pytest.LogCaptureFixture, taken: str, accelerator: Accelerator | None
) -> None:
    """No thread of Ray Data is left that would ask a Ray that has stopped."""
    before = set(threading.enumerate())
    with all_taken(taken, 2), sigterm_when_told(), pytest.raises(Preempted, match=f"^SIGTERM: {LOST}$"):
        next(tables_of(squares, 10, CLUSTER, 2, accelerator=accelerator))
    assert f"from 2 workers, each on one {taken}: of the cluster's 2 0 are free" in caplog.text
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert not [name for name in left if name.startswith(ranges.THREADS)]


def test_two_workers_give_the_tables_of_one_in_its_order(small: None) -> None:
    here, there = ([*tables_of(squares, 9 * 512 + 5, CLUSTER, workers)] for workers in (1, 2))
    assert [table["row"][0].as_py() for table in there] == [512 * number for number in range(10)]
    for one, other in zip(here, there, strict=True):
        assert one.drop_columns(["pid"]).equals(other.drop_columns(["pid"]))
    pids = {pid for table in there for pid in table["pid"].to_pylist()}
    assert pids and os.getpid() not in pids


@pytest.mark.parametrize("read", [1, 4])
def test_no_thread_that_asks_ray_is_left(small: None, read: int) -> None:
    """Ray Data's prefetcher stays, and is given nothing to do."""
    before = set(threading.enumerate())
    tables = tables_of(squares, 4 * 512, CLUSTER, 2)
    for _ in range(read):
        next(tables)
    during = {thread.name for thread in set(threading.enumerate()) - before}
    tables.close()
    assert "iter_threaded" in during or read == 4
    left = {thread.name for thread in set(threading.enumerate()) - before if not thread.name.startswith("ray_")}
    assert left <= {"Prefetcher", "PythonGCThread"}


class Left(threading.Thread):
    """Of an earlier run, which has waited for it."""

    joined = False

    def join(self, timeout: float | None = None) -> None:
        self.joined = True


def test_a_thread_that_was_there_before_is_not_waited_for(small: None) -> None:
    """One that never ends would cost every later run in the process its minute."""
    ended = threading.Event()
    threads = [Left(name=name, target=ended.wait, daemon=True) for name in ranges.THREADS]
    for thread in threads:
        thread.start()
    try:
        assert len(list(tables_of(squares, 2 * 512, CLUSTER, 2))) == 2
        assert not any(thread.joined for thread in threads)
    finally:
        ended.set()


def held() -> Work:
    ids = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    return lambda rows: pa.table({"gpu": [ids] * len(rows)})


def test_each_worker_holds_a_device_of_its_own(small: None) -> None:
    cuda = ACCELERATORS["cuda"]
    tables = tables_of(held, 4 * 512, CLUSTER, 2, accelerator=cuda)
    found = {tuple(ids) for table in tables for ids in table["gpu"].to_pylist()}
    assert found and found <= {("0",), ("1",)}
    with pytest.raises(ConfigError, match="3 workers and 2 GPUs"):
        list(tables_of(held, 10, CLUSTER, 3, accelerator=cuda))


def failing() -> Work:
    def work(rows: range) -> pa.Table:
        if rows.start == 1024:
            raise DataError("row 1030 is bad")
        return pa.table({"row": list(rows)})

    return work


def dying() -> Work:
    return lambda rows: os._exit(1)


@pytest.mark.parametrize(
    ("make", "kind", "message"), [(failing, DataError, "^row 1030 is bad$"), (dying, RunError, "^a worker failed")]
)
def test_what_the_work_raises_arrives_as_it_is(small: None, make: Callable, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        list(tables_of(make, 2048, CLUSTER, 2))


def test_more_workers_than_cpus_are_refused(small: None) -> None:
    with pytest.raises(ConfigError, match="9 workers and 2 CPUs"):
        list(tables_of(squares, 10, CLUSTER, 9))


def test_sizes_measured_by_two_are_the_bytes_of_one(
    small: None, tiny_vl_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows with pictures and without; a bad one is left out by both, and named first by both when none may be."""
    monkeypatch.setattr(ranges, "ROWS", 5)
    write_rows(tmp_path)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    lines[7] = lines[7].replace("a.png", "gone.png")
    lines[20] = lines[20].replace("b.png", "gone.png")
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    config = stage(tmp_path, tiny_vl_model, data={"on_bad_row": "skip"})
    assert [write_sizes(config, tmp_path / f"{workers}.parquet", workers) for workers in (1, 2)] == [22, 22]
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    ids = pq.read_table(tmp_path / "2.parquet")["id"].to_pylist()
    assert ids == [f"r{number:02d}" for number in range(24) if number not in (7, 20)]
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"row 8: picture 'gone.png'.*on_bad_row to skip"):
            write_sizes(stage(tmp_path, tiny_vl_model), tmp_path / "never.parquet", workers)
    assert not (tmp_path / "never.parquet").exists() and not list(tmp_path.glob(".*partial"))
