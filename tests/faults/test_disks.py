"""A disk that is small, or read-only, for real: one line with the path, what was there stays, more room mends it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

from pangu_rl.checkpoint.disk import disk_that_refuses
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.rank_files import write_files
from pangu_rl.checkpoint.run_lock import run_lock
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.config.sections.trainer import MonitoringConfig
from pangu_rl.errors import CheckpointError, ConfigError, RunError
from pangu_rl.loops.saving import Saving
from pangu_rl.monitoring.sinks import MetricSinks
from tests.e2e import runs
from tests.faults import alike
from tests.faults.conftest import remount


class Ranks:
    """One, whose state has so many float32 numbers."""

    def __init__(self, numbers: int) -> None:
        self._state = {"w": torch.arange(numbers, dtype=torch.float32)}
        self._writing: Future[dict[str, Entry]] = Future()

    def save(self, checkpoint: Path) -> None:
        self._writing = write_files(checkpoint, {"rank_0.pt": dict(self._state)})

    def written(self) -> dict[str, Entry]:
        return self._writing.result()


def save(store: CheckpointStore, step: int, numbers: int) -> None:
    saving = Saving(store)
    saving.begin(step, Ranks(numbers), {})
    saving.wait()


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before_and_its_room(disk: Path) -> None:
    """1.2 MB on a disk of 1 MiB; with 4 MiB it fits."""
    store = CheckpointStore(disk, keep=9)
    save(store, 1, numbers=1000)
    with pytest.raises(
        CheckpointError, match=r"step_000002/rank_0\.pt: No space left on device .*; make room"
    ) as caught:
        save(store, 2, numbers=300_000)
    assert "\n" not in str(caught.value)
    assert [path.name for path in store.directory.iterdir()] == ["step_000001"]
    remount(disk, "size=4m")
    save(store, 2, numbers=300_000)
    assert store.latest().step == 2
    with pytest.raises(CheckpointError, match=r"the checkpoint of step 3 needs some 1,2[\d,]+ bytes and "):
        remount(disk, "size=2m")
        save(store, 3, numbers=300_000)


def test_a_log_that_does_not_fit_is_named(disk: Path) -> None:
    (disk / "rest").write_bytes(bytes(2**20 - 8192))
    line = r"^\S+/metrics\.jsonl: No space left on device \([\d,]+ bytes free\); make room"
    with (
        pytest.raises(RunError, match=line),
        disk_that_refuses(disk),
        MetricSinks(disk, MonitoringConfig(tensorboard=False)) as sinks,
    ):
        for step in range(1000):
            sinks.log(step, {"train/loss": 1.0})


def test_a_disk_that_became_read_only_takes_neither_checkpoint_nor_run(disk: Path) -> None:
    store = CheckpointStore(disk, keep=9)
    save(store, 1, numbers=10)
    remount(disk, "ro")
    with pytest.raises(CheckpointError, match=r"checkpoints: Read-only file system \([\d,]+ bytes free\)"):
        save(store, 2, numbers=10)
    assert store.latest().step == 1
    with (
        pytest.raises(ConfigError, match=r"\.lock: Read-only file system .*; make it writable, or set"),
        run_lock(disk),
    ):
        pass


@pytest.mark.slow
def test_a_run_on_a_small_disk_ends_by_its_name_and_goes_on_with_more_room(
    whole: Callable[[str], Path], tiny_model: Path, tmp_path: Path, disk: Path
) -> None:
    """A checkpoint is 55 MB: of 30 there is none, of 100 one, and the same command ends with 300."""
    config = alike.write_sft(tmp_path, tiny_model)
    for size, says in (("30m", "the first checkpoint needs some"), ("100m", "the checkpoint of step 4 needs some")):
        remount(disk, f"size={size}")
        done = runs.run("sft", config, f"run_dir={disk}", timeout=alike.PATIENCE_S)
        said = " ".join(done.stderr.split())
        assert done.returncode == 1 and f"{disk}/checkpoints: {says}" in said, done.stderr
        assert "Traceback" not in done.stderr
    remount(disk, "size=300m")
    done = runs.run("sft", config, f"run_dir={disk}", timeout=alike.PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert alike.unlike("sft", disk, whole("sft")) == []
