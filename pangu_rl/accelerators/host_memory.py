"""Host memory that this process may use: **the machine's, or less where a container or job has a limit** (cgroups)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def host_memory(groups: Path = GROUPS, own: Path = OWN) -> tuple[int, int]:
    """(free, total) bytes: the least that the machine and every group of this process leave."""
    import psutil

    node = psutil.virtual_memory()
    free, total = node.available, node.total
    for limit, used in _limits(groups, own):
        free, total = min(free, max(0, limit - used)), min(total, limit)
    return free, total


def _limits(groups: Path, own: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) of each group that has one. Files that are read lie in a group's memory until it wants it, and
    count as free."""
    for folder, (limit, used, cached) in _folders(groups, own):
        try:
            # Version 2 says `max` where there is no limit, version 1 a number larger than any machine.
            most, now = (int((folder / name).read_text()) for name in (limit, used))
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield most, now - int(statistics.get(cached, 0))
        except (OSError, ValueError):
            continue


def _folders(groups: Path, own: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """This process's groups from the innermost on; in a container the mount begins with its own."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (groups / "memory", V1) if controllers else (groups, V2)
        inner = root / path.lstrip("/")
        yield from ((folder, names) for folder in (inner, *inner.parents) if folder.is_relative_to(root))
