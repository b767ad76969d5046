"""An output folder that is there whole or not at all. Path -> **a folder to write in, renamed at the end**.

It is written beside its place under a hidden name, which a lock protects while the process lives. What a killed export
left there is removed by the next one to the same place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pangu_rl.errors import DataError
from pangu_rl.storage.file_lock import lock
from pangu_rl.whole_file import flush


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """The folder to write in; it becomes `output` when the block ends well, and is removed when it does not.

    Raises:
        DataError: `output` is there already, another export writes it, or it cannot be written (a full disk).
    """
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise DataError(f"{output}: is there already; --output is a new folder for each export")
    output = output.absolute()
    partial = output.with_name(f".{output.name}.partial")
    try:
        with _owned(partial):
            try:
                yield partial
                for folder, _, names in os.walk(partial, topdown=False):
                    for path in (*(Path(folder, name) for name in names), Path(folder)):
                        flush(path)
                os.replace(partial, output)
                flush(output.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{output}: {error.strerror or error}; nothing was written") from None


@contextmanager
def _owned(partial: Path) -> Iterator[None]:
    """Make `partial` an empty folder that no other process writes."""
    partial.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if not lock(descriptor, partial):
            raise DataError(f"{partial}: another export is writing it: wait, or choose another --output")
        for path in partial.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        yield
    finally:
        os.close(descriptor)
