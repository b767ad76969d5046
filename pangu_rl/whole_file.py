"""Files that appear **whole or not at all**: a name stands for what was written to its end."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path, *, flushed: bool = False) -> Iterator[Path]:
    """Where to write the file `path`: a file beside it that takes its name at the end of the context. After an error it
    is gone, and `path` as it was; of processes that write the same file, the last to end is the one that stands.

    `flushed`, the file and its name are on disk then; else a machine that is lost may leave it empty.

    Raises:
        OSError: the folder cannot be written.
    """
    # Random: what a killed process has left behind is in nobody's way. Short: a name has 255 bytes at most.
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")
    try:
        yield partial
        if flushed:
            flush(partial)
        os.replace(partial, path)
        if flushed:
            flush(path.parent)
    finally:
        with suppress(OSError):
            partial.unlink()


def flush(path: Path) -> None:
    """fsync a file or a folder, also one that another process wrote."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
