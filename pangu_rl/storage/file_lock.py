"""A file that one process holds at a time: **who comes second is told, or waits and says for whom**."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pangu_rl.errors import ConfigError

FIRST_POLL_S, POLL_S = 0.01, 0.5
"""Between two looks at a lock that another process holds: what is soon free is soon taken, and each pause is twice the
one before."""


def lock(file: IO | int, path: Path, *, shared: bool = False) -> bool:
    """Lock the open `file`, until it is closed; false where another process holds it.

    Raises:
        ConfigError: the file system of `path` has no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _refusal(path, error) from None
    return True


@contextmanager
def held(
    path: Path, say: Callable[[str], None], stop: Callable[[], None] = lambda: None, quiet_s: float = 0.0
) -> Iterator[None]:
    """Hold the file `path`, which is made where it is not there. While another process holds it this one waits, says so
    once with its name when that has taken `quiet_s`, and calls `stop` again and again, which raises what ends the wait.

    Raises:
        ConfigError: it cannot be made or written, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise _refusal(path, error) from None
    with file:
        told, pause, tell_at = False, FIRST_POLL_S, time.monotonic() + quiet_s
        while not lock(file, path):
            if not told and time.monotonic() >= tell_at:
                file.seek(0)
                say(f"{path} is held by {file.read().strip() or 'another process'}: waiting until it is done")
                told = True
            stop()
            time.sleep(pause)
            pause = min(2 * pause, POLL_S)
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
        except OSError as error:
            raise _refusal(path, error) from None
        yield


def _refusal(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{path} cannot be locked: {error.strerror or error}; two processes could write what it stands for at once: "
        "name a place that is writable and whose file system has locks (Lustre: mounted with -o flock)"
    )
