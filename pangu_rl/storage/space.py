"""Room for local copies: **so many bytes in all, and the least recently used leave**.

A book beside them has their sum, so that a copy costs no walk over the folder; when it would exceed the bound, the
folder is walked and the sum is what is there.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pangu_rl.errors import ConfigError
from pangu_rl.storage.file_lock import lock

BOUND = "PANGU_RL_REMOTE_CACHE_BYTES"
"""In the environment of the run's processes: `cluster.remote_cache_gib`."""
DEFAULT = 100 * 2**30
KEPT = 0.9
"""Of the bound, after copies have left: every walk makes room for more than one."""
BOOK = ".bytes"
PARTIAL = re.compile(r"\..+\.\d+\.\d+")
"""Name of what a thread of a process is just fetching."""
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
    with _book(root) as book:
        used = int(book.read() or 0)
        if used + size > bound():
            used = _left_after_leaving(root, int(KEPT * bound()) - size)
        book.seek(0)
        book.truncate()
        book.write(str(used + size))


def used_now(path: Path) -> None:
    """`path` is the last to leave; its time of change stays that of the remote file."""
    with suppress(OSError):  # it left meanwhile
        status = path.stat()
        os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))


@contextmanager
def _book(root: Path) -> Iterator[TextIO]:
    with (root / BOOK).open("a+", encoding="utf-8") as book:
        lock(book, root / BOOK, wait=True)
        book.seek(0)
        yield book


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
