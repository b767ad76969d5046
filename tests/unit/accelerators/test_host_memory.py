"""What a container or a job may use of a machine's memory, from the files of both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from pangu_rl.accelerators.host_memory import V1, V2, host_memory

GIB = 2**30


class Machine:
    available, total = 1000 * GIB, 1024 * GIB


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", Machine)


def group(folder: Path, names: tuple[str, str, str], limit: str, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, str(used)), strict=False):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\nslab 2\n")


def own(folder: Path, text: str) -> Path:
    (folder / "cgroup").write_text(text)
    return folder / "cgroup"


def test_the_limit_of_a_container_counts_and_read_files_are_free(tmp_path: Path) -> None:
    """128 GiB, 40 of them taken, of which 10 are files that were read: 98 are free."""
    group(tmp_path, V2, str(128 * GIB), 40 * GIB, 10 * GIB)
    assert host_memory(tmp_path, own(tmp_path, "0::/\n")) == (98 * GIB, 128 * GIB)


def test_a_job_has_the_least_of_its_groups(tmp_path: Path) -> None:
    """The step itself has no limit of its own, the job above it has."""
    group(tmp_path / "slurm" / "job" / "step", V2, "max", 40 * GIB, 0)
    group(tmp_path / "slurm" / "job", V2, str(64 * GIB), 50 * GIB, 0)
    group(tmp_path / "slurm", V2, str(500 * GIB), 100 * GIB, 0)
    found = host_memory(tmp_path, own(tmp_path, "0::/slurm/job/step\n"))
    assert found == (14 * GIB, 64 * GIB)


@pytest.mark.parametrize("inside", ["", "docker/abc"])
def test_version_1_in_a_container_and_beside_it(tmp_path: Path, inside: str) -> None:
    """In a container the named folder is the mount itself; the root of a machine has no limit but a large number."""
    group(tmp_path / "memory" / inside, V1, str(32 * GIB), 8 * GIB, 2 * GIB)
    if inside:
        group(tmp_path / "memory", V1, str(2**63 - 4096), 900 * GIB, 0)
    text = "5:devices:/\n4:cpu,memory:/docker/abc\n0::/\n"
    assert host_memory(tmp_path, own(tmp_path, text)) == (26 * GIB, 32 * GIB)


def test_without_a_limit_it_is_the_machine(tmp_path: Path) -> None:
    group(tmp_path, V2, "max", 40 * GIB, 0)
    assert host_memory(tmp_path, own(tmp_path, "0::/\n")) == (1000 * GIB, 1024 * GIB)
    assert host_memory(tmp_path, tmp_path / "no such file") == (1000 * GIB, 1024 * GIB)
