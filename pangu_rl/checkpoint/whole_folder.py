"""A folder that appears **whole or not at all**, flushed to disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pangu_rl.checkpoint.manifest import flush
from pangu_rl.errors import RunError


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `output` at the end of the context.

    Raises:
        RunError: the disk is full, or nothing can be written there.
    """
    partial = output.with_name(f".partial-{output.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
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
