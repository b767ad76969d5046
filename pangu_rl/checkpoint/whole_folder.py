"""A folder that appears **whole or not at all**, flushed to disk."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pangu_rl.errors import RunError
from pangu_rl.whole_file import flush


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `output` at the end of the context. Processes that make the same one do
    not meet before that, and the later one fails; what a killed one left is removed.

    Raises:
        RunError: the disk is full, nothing can be written there, or `output` has come to be there.
    """
    prefix = f".partial-{output.name}-"
    partial = output.with_name(prefix + secrets.token_hex(4))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(output.parent, prefix)
        partial.mkdir()
        with _held(partial, alone=False):
            yield partial
            for file in partial.iterdir():
                flush(file)
            flush(partial)
            os.replace(partial, output)
        flush(output.parent)
    except OSError as error:
        raise RunError(f"{error.filename or output}: {error.strerror}; nothing was written") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(folder: Path, prefix: str) -> None:
    for left in folder.iterdir():
        if left.name.startswith(prefix):
            with suppress(OSError), _held(left, alone=True):
                shutil.rmtree(left)


@contextmanager
def _held(folder: Path, *, alone: bool) -> Iterator[None]:
    """As long as this process lives, at most; where a file system has no locks, folders are made all the same, and
    nothing that stands there is taken for abandoned.

    Raises:
        OSError: `alone`, and another process holds it or nobody can.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if alone:
                raise
        yield
    finally:
        os.close(handle)
