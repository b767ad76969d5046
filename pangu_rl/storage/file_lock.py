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

POLL_S = 0.5


def lock(file: IO | int, path: Path, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock the open `file`, until it is closed; false where another process holds it.

    Raises:
        ConfigError: the file system of `path` has no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise _refusal(path, error) from None
    return True


@contextmanager
def held(path: Path, say: Callable[[str], None], stop: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the file `path`, which is made where it is not there. While another process holds it this one waits, says so
    once with its name, and calls `stop` again and again, which raises what ends the wait.

    Raises:
        ConfigError: it cannot be made or written, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise _refusal(path, error) from None
    with file:
        if not lock(file, path):
            file.seek(0)
            say(f"{path} is held by {file.read().strip() or 'another process'}: waiting until it is done")
            while not lock(file, path):
                stop()
                time.sleep(POLL_S)
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
