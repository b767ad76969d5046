"""A lock that another process holds: who waits says so once and can be stopped; a file system without any is told."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from pangu_rl.checkpoint.run_lock import run_lock
from pangu_rl.data.index.opening import open_index
from pangu_rl.errors import ConfigError
from pangu_rl.storage import file_lock
from pangu_rl.storage.file_lock import held, lock
from rollout.reading import reading


class Stopped(Exception):
    """The run was asked to end."""


def test_a_wait_is_told_once_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the third look, which is not made."""
    monkeypatch.setattr(file_lock, "POLL_S", 0.001)
    path, told, looks = tmp_path / "new" / "lock", [], iter([None, None, Stopped])

    def stop() -> None:
        if (found := next(looks)) is not None:
            raise found

    with held(path, told.append), pytest.raises(Stopped), held(path, told.append, stop):
        pass
    assert len(told) == 1
    assert f"{path} is held by process {os.getpid()} on " in told[0]
    with held(path, told.append):
        assert len(told) == 1, "it was free"


def test_readers_share_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open() as second, path.open() as third:
        assert lock(first, path, shared=True)
        assert lock(second, path, shared=True)
        assert not lock(third, path)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As Lustre without `-o flock` and NFS without its daemon answer."""

    def refuse(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "p", "response": "r"}\n')
    with pytest.raises(ConfigError, match=rf"\.lock cannot be locked: {os.strerror(number)}.*name a place that"):
        open_index([rows])
    with pytest.raises(ConfigError, match=os.strerror(number)), reading(tmp_path):
        pass
    with pytest.raises(ConfigError, match=rf"{os.strerror(number)}.*set another trainer\.run_dir"), run_lock(tmp_path):
        pass


def test_a_place_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/lock cannot be locked: "), held(tmp_path / "file" / "lock", print):
        pass
