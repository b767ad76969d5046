"""A disk that is full or cannot be written -> **one line with the path**, and room that is asked for beforehand."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pangu_rl.errors import CheckpointError, ConfigError, RunError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GONE = (errno.EROFS, errno.EIO)
"""A file system that is mounted anew, without writes, after an error of its disk."""
WAY_OUT = "make room or set trainer.keep_checkpoints lower; earlier checkpoints are whole"


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Within it a checkpoint is written below `path`; raises CheckpointError for whatever the disk refuses."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = error.__context__ if type(error) is RuntimeError else error  # torch's writer hides what it met
        if not isinstance(cause, OSError | SafetensorError):
            raise
        reason = getattr(cause, "strerror", None) or str(cause)
        raise CheckpointError(f"{path}: {reason} ({free_bytes(path):,} bytes free); {WAY_OUT}") from None


@contextmanager
def run_directory(folder: Path) -> Iterator[None]:
    """Within it a run makes its directory and what it starts with; raises ConfigError for what the disk refuses."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise ConfigError(
            f"run directory {folder}: {where}: {error.strerror or error} ({free_bytes(folder):,} bytes free); make it "
            "writable, or set another trainer.run_dir"
        ) from None


def require_run_directory(folder: Path) -> None:
    """Whether a run could begin in `folder`; nothing is made.

    Raises:
        ConfigError: it cannot be made or written.
    """
    with run_directory(folder):
        place = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


@contextmanager
def disk_that_refuses(folder: Path) -> Iterator[None]:
    """Within it a run goes on in its directory; raises RunError where its disk takes no more."""
    try:
        yield
    except OSError as error:
        if error.errno not in (*FULL, *GONE):
            raise
        mend = "make room" if error.errno in FULL else "make it writable"
        raise RunError(
            f"{error.filename or folder}: {error.strerror} ({free_bytes(folder):,} bytes free); {mend}, and the same "
            "command goes on from the newest checkpoint"
        ) from error


def require_room(folder: Path, needed: int, what: str, way_out: str = WAY_OUT) -> None:
    """
    Raises:
        CheckpointError: fewer than `needed` bytes are free for `what`.
    """
    if (free := free_bytes(folder)) < needed:
        raise CheckpointError(f"{folder}: {what} needs some {needed:,} bytes and {free:,} are free; {way_out}")


def free_bytes(path: Path) -> int:
    """On the disk that `path` is on, or will be."""
    return shutil.disk_usage(next(place for place in (path, *path.absolute().parents) if place.exists())).free


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
