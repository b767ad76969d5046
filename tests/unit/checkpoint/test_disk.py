"""What the disk refuses is one line that names the place, and is nothing else's fault."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pangu_rl.checkpoint import run_lock
from pangu_rl.checkpoint.disk import disk_that_refuses, free_bytes, run_directory, told
from pangu_rl.errors import CheckpointError, ConfigError, RunError


@pytest.mark.parametrize("below", ["file/run", "file"])
def test_a_run_directory_that_cannot_be_made_is_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(ConfigError, match=r"run directory .*file.*; make it writable, or set another")
    with refused as caught, run_lock(tmp_path / below):
        pass
    assert "\n" not in str(caught.value)


def test_what_fails_within_the_lock_is_not_the_directorys(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), run_lock(tmp_path):
        (tmp_path / "absent").read_text()


def test_a_full_disk_ends_a_run_in_one_line_that_names_the_file(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")
    line = r"^metrics\.jsonl: No space left on device \([\d,]+ bytes free\); make room"
    with pytest.raises(RunError, match=line), disk_that_refuses(tmp_path):
        raise error
    line = r"^metrics\.jsonl: Read-only file system \([\d,]+ bytes free\); make it writable"
    with pytest.raises(RunError, match=line), disk_that_refuses(tmp_path):
        raise OSError(errno.EROFS, "Read-only file system", "metrics.jsonl")
    with pytest.raises(FileNotFoundError), disk_that_refuses(tmp_path):
        (tmp_path / "absent").read_text()


def test_room_is_that_of_the_disk_that_will_be_written(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not/there/yet") > 0


def test_what_is_no_fault_of_the_disk_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no file"), told(tmp_path):
        raise RuntimeError("no file")
    with pytest.raises(CheckpointError, match="Is a directory"), told(tmp_path):
        tmp_path.write_text("")
    with pytest.raises(ConfigError, match="Is a directory"), run_directory(tmp_path):
        tmp_path.write_text("")
