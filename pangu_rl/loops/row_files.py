"""What a configuration names as rows -> **the files and folders that decide which rows those are**."""

from __future__ import annotations

from pathlib import Path

from pangu_rl.config.names.named_files import on_disk
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.formats.dataset_info import described


def row_files(name: str) -> list[Path]:
    """The rows last; before them, of an entry of a `dataset_info.json`, that file, alone if it is not there.

    Raises:
        DataError: it has no such entry, or one that cannot be read.
    """
    path, found = resolve_path(name), on_disk(name)
    return [found] if found == path or not found.exists() else [found, described(path)[0]]
