"""What the harness compares with, and disks that are small for real."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import runs
from tests.faults import alike


@pytest.fixture(scope="session")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a run of a stage to which nothing was done."""

    @functools.cache
    def run(stage: str) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        done = runs.run(stage, alike.WRITE[stage](folder, tiny_model), timeout=alike.PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return folder / "run"

    return run


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory, of 1 MiB until `remount` says otherwise."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"THIS MACHINE MOUNTS NOTHING, so no disk is full or read-only for real: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)
