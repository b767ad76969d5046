"""One driver per run directory."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pangu_rl.checkpoint.disk import run_directory
from pangu_rl.errors import ConfigError


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold `run_dir/.lock`; the kernel releases it when the process dies, however it dies.

    Raises:
        ConfigError: another process holds it; the message says which. The directory cannot be made or written.
    """
    with run_directory(Path(run_dir)):
        Path(run_dir).mkdir(parents=True, exist_ok=True)
        lock = (Path(run_dir) / ".lock").open("a+", encoding="utf-8")
    with lock as file:
        with run_directory(Path(run_dir)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "another process"
                raise ConfigError(f"{run_dir} is in use by {owner}: stop it, or set another trainer.run_dir") from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield
