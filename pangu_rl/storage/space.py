"""Room for local copies: **so many bytes in all, and the least recently used leave**.

A book beside them has their sum, so that a copy costs no walk over the folder; when it would exceed the bound, the
folder is walked and the sum is what is there.
"""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from pangu_rl.errors import ConfigError
from pangu_rl.storage.file_lock import held

log = logging.getLogger(__name__)

BOUND = "PANGU_RL_REMOTE_CACHE_BYTES"
"""In the environment of the run's processes: `cluster.remote_cache_gib`."""
DEFAULT = 100 * 2**30
KEPT = 0.9
"""Of the bound, after copies have left: every walk makes room for more than one."""
BOOK = ".bytes"
PARTIAL = re.compile(r"\..+\.\d+\.\d+")
"""Name of what a thread of a process is just fetching."""
QUIET_S = 10.0
"""A wait for another process that fetches the same file, or makes room, is nothing to speak of for so long."""
ABANDONED_S = 86_400
"""A file that nothing was written to for so long is not being fetched any more."""


def bound() -> int:
    """Bytes of all local copies."""
    return int(os.environ.get(BOUND) or DEFAULT)


def require_room(size: int, name: str) -> None:
    """
    Raises:
        ConfigError: so much does not stay in the cache.
    """
    if size > KEPT * bound():
        raise ConfigError(
            f"{name}: {size} bytes, and {KEPT:.0%} of cluster.remote_cache_gib, which copies may take for long, are "
            f"{int(KEPT * bound())}: raise it"
        )


def make_room(root: Path, size: int, name: str) -> None:
    """Enter a copy of `size` bytes into the book, after others have left if it would not fit.

    Raises:
        ConfigError: as `require_room`.
    """
    require_room(size, name)
    root.mkdir(parents=True, exist_ok=True)
    book = root / BOOK
    with alone(root, "book"):
        used = int(book.read_text(encoding="utf-8") or 0) if book.exists() else 0
        if used + size > bound():
            used = _left_after_leaving(root, int(KEPT * bound()) - size)
        book.write_text(str(used + size), encoding="utf-8")


def alone(root: Path, name: str) -> AbstractContextManager[None]:
    """What one process at a time does to the copies under `root`. Who comes second waits, and says for whom.

    Raises:
        ConfigError: as `held`.
    """
    return held(root.with_name(f"{root.name}_locks") / name, log.warning, quiet_s=QUIET_S)


def used_now(path: Path) -> None:
    """`path` is the last to leave; its time of change stays that of the remote file."""
    with suppress(OSError):  # it left meanwhile
        status = path.stat()
        os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))


def _left_after_leaving(root: Path, most: int) -> int:
    """Bytes of the copies that stay, which are at most `most` or those that are just being written."""
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            if name != BOOK:
                with suppress(OSError):
                    status = os.stat(path := f"{folder}/{name}")
                    recent = status.st_mtime > time.time() - ABANDONED_S
                    is_written = PARTIAL.fullmatch(name) is not None and recent
                    found.append((status.st_atime_ns, status.st_size, path, is_written))
    total = sum(size for _, size, _, _ in found)
    for used, size, path, is_written in sorted(found):
        if total <= most:
            break
        with suppress(OSError):
            if not is_written and os.stat(path).st_atime_ns == used:  # not used since
                os.unlink(path)
                total -= size
    return total
