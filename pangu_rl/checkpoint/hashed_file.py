"""Bytes -> **a file, and its SHA-256** -> the manifest: what has just been written need not be read again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pangu_rl.checkpoint.manifest import Entry


class HashedFile:
    """A new file that is hashed on its way to disk, where it is when the context ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()

    def __enter__(self) -> HashedFile:
        self._file = self._path.open("wb")
        return self

    def __exit__(self, *failure: object) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def write(self, data: bytes | memoryview) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def entry(self) -> Entry:
        return Entry(size=self._path.stat().st_size, sha256=self._hash.hexdigest())
