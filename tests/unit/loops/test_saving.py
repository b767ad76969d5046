"""Checkpoints beside the loop: at most one under way, sealed as it was begun, and no failure is lost."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pangu_rl.checkpoint.manifest import Entry, entries_of
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.errors import CheckpointError
from pangu_rl.loops.saving import Saving

PATIENCE = 10.0


class SlowRanks:
    """Two ranks whose files are on disk when `disk` is set."""

    def __init__(self) -> None:
        self.disk = threading.Event()
        self.lost: str | None = None

    def save(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        (checkpoint / "learner").mkdir()
        for rank in range(2):
            (checkpoint / f"learner/rank_{rank}.pt").write_bytes(b"o" * 1000)

    def written(self) -> dict[str, Entry]:
        assert self.disk.wait(PATIENCE)
        entries = entries_of(self.checkpoint, {})
        found = {name: replace(entry, rank=int(name[-4])) for name, entry in entries.items()}
        if self.lost:
            (self.checkpoint / self.lost).unlink()
        return found


def test_the_loop_goes_on_and_the_next_checkpoint_waits(tmp_path: Path) -> None:
    store, ranks = CheckpointStore(tmp_path, keep=9), SlowRanks()
    saving = Saving(store)
    state = {"rows": [1, 2]}
    saving.begin(1, ranks, state)
    state["rows"].append(3)  # the loop goes on
    saving.raise_if_failed()
    assert store.is_empty() and saving.take() == {}
    second = threading.Thread(target=saving.begin, args=(2, ranks, state))
    second.start()
    second.join(0.2)
    assert second.is_alive() and not (store.directory / ".partial-step_000002").exists()
    ranks.disk.set()
    second.join(PATIENCE)
    saving.wait()
    assert sorted(path.name for path in store.directory.iterdir()) == ["step_000001", "step_000002"]
    assert store.latest().state == {"rows": [1, 2, 3]}
    assert '"rows": [1, 2]}' in (store.directory / "step_000001/state.json").read_text()
    assert saving.take()["time/checkpoint_write"] >= 0 and saving.take() == {}


def test_a_failure_is_raised_once_by_the_step_that_follows(tmp_path: Path) -> None:
    store, ranks = CheckpointStore(tmp_path, keep=9), SlowRanks()
    ranks.lost = "learner/rank_1.pt"
    saving = Saving(store)
    saving.begin(1, ranks, {})
    ranks.disk.set()
    with pytest.raises(CheckpointError, match=r"rank 1's file learner/rank_1\.pt is not in .*not shared by all nodes"):
        for _ in range(1000):
            saving.raise_if_failed()
            threading.Event().wait(0.01)
    saving.wait()
    assert store.is_empty()


def test_an_end_by_another_error_seals_what_it_can_and_only_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, ranks = CheckpointStore(tmp_path, keep=9), SlowRanks()
    saving = Saving(store)
    ranks.disk.set()
    saving.begin(1, ranks, {})
    saving.settle()
    assert store.latest().step == 1
    ranks.lost = "learner/rank_0.pt"
    saving.begin(2, ranks, {})
    with caplog.at_level(logging.WARNING):
        saving.settle()
    assert "the last checkpoint was not written: rank 0's file" in caplog.text
    assert store.latest().step == 1


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from pangu_rl.checkpoint.rank_files import host_copy, write_files
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.loops.saving import Saving

countdown = int(sys.argv[2])

def killing(function):
    def wrapped(*args, **kwargs):
        global countdown
        countdown -= 1
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapped

class Ranks:
    def save(self, checkpoint):
        states = {f"rank_{n}.pt": {"w": torch.full((1000,), float(n))} for n in range(3)}
        self.writing = write_files(checkpoint, host_copy(states))

    def written(self):
        return self.writing.result()

saving = Saving(CheckpointStore(Path(sys.argv[1]), keep=9))
saving.begin(1, Ranks(), {})
saving.wait()
os.fsync, os.replace = killing(os.fsync), killing(os.replace)
saving.begin(2, Ranks(), {})
saving.wait()
"""


@pytest.mark.parametrize("countdown", [1, 3, 6])
def test_killed_in_the_background_leaves_the_one_before(tmp_path: Path, countdown: int) -> None:
    """SIGKILL at the flush of a rank's first and last file, and while the driver seals."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(countdown)], check=False)
    assert done.returncode == -signal.SIGKILL
    store = CheckpointStore(tmp_path, keep=9)
    assert (store.directory / ".partial-step_000002").is_dir()
    assert store.latest().step == 1


def test_one_is_due_by_steps_or_by_the_clock_whichever_is_first(tmp_path: Path) -> None:
    now = [0.0]
    saving = Saving(CheckpointStore(tmp_path, keep=9), every=4, every_s=1800.0, clock=lambda: now[0])
    ranks = SlowRanks()
    ranks.disk.set()
    assert [saving.is_due(step) for step in (3, 4)] == [False, True]
    now[0] = 1799.0
    assert not saving.is_due(5)
    now[0] = 1800.0
    assert saving.is_due(5)
    saving.begin(5, ranks, {})
    assert (saving.step, saving.is_due(6)) == (5, False)
    now[0] = 3600.0
    assert saving.is_due(7)
    saving.wait()
    assert not Saving(CheckpointStore(tmp_path, keep=9), clock=lambda: now[0]).is_due(8)


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from pangu_rl.checkpoint.rank_files import write_files
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.errors import CheckpointError
from pangu_rl.loops.saving import Saving

class Ranks:
    def save(self, checkpoint):
        self.writing = write_files(checkpoint, {"rank_0.pt": {"w": torch.zeros(elements)}})

    def written(self):
        return self.writing.result()

def write(folder):
    (folder / "rows").write_bytes(bytes(rows))

store = CheckpointStore(Path(sys.argv[1]), keep=9)
saving = Saving(store)
elements, rows = 10, 10
saving.begin(1, Ranks(), {}, write)
saving.wait()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for elements, rows in ((300_000, 10), (10, 300_000)):
    try:
        saving.begin(2, Ranks(), {}, write)
        saving.wait()
    except CheckpointError as error:
        print(error)
print([path.name for path in store.directory.iterdir()], store.latest().step)
"""


def test_a_disk_that_is_full_is_one_line_and_nothing_stays(tmp_path: Path) -> None:
    """No file may grow beyond 100,000 bytes: a rank meets it first, then what the loop writes itself."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    of_rank, of_loop, left = done.stdout.splitlines()
    assert "step_000002/rank_0.pt: File too large" in of_rank
    assert "checkpoints: File too large" in of_loop
    assert all("bytes free); make room" in line for line in (of_rank, of_loop))
    assert left == "['step_000001'] 1"


class FailingRanks(SlowRanks):
    def save(self, checkpoint: Path) -> None:
        super().save(checkpoint)
        raise OSError(28, "No space left on device")


def test_ranks_that_cannot_begin_leave_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=9)
    with pytest.raises(CheckpointError, match=r"No space left on device .* make room"):
        Saving(store).begin(1, FailingRanks(), {})
    assert list(store.directory.iterdir()) == []
