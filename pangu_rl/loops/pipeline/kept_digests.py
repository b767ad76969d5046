"""Files -> **SHA-256, kept between starts of a pipeline**: a file is read again when anything says that it changed.

A file is the one that was read while its place, size, inode and times of change are. One that changed less than
`SETTLED_S` before it was read is not kept: it may change again within the tick of its file system's clock.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.settings import write_whole

DIGESTS = "digests.json"
"""In the pipeline's run directory."""
SETTLED_S = 5.0


class KeptDigests:
    """Digests by what `stat` says of a file; those that were asked for since the start are written down."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._used: dict[str, str] = {}

    @contextmanager
    def in_folder(self, folder: Path, verify: bool) -> Iterator[None]:
        """Go on from what an earlier start left in `folder`, and leave it there; with `verify` everything is read anew.

        A file of another making, or a torn one, is nothing that is known.
        """
        path = folder / DIGESTS
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self._known, self._used = {} if verify or not isinstance(known, dict) else known, {}
        try:
            yield
        finally:
            write_whole(path, json.dumps(self._used, indent=0))
            self._known, self._used = {}, {}

    def sha256(self, path: Path) -> str:
        """Of a file's content, hex."""
        key = _key(path)
        digest = self._used.get(key) or self._known.get(key)
        if not isinstance(digest, str):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        if _key(path) == key and time.time() - path.stat().st_ctime > SETTLED_S:
            self._used[key] = digest
        return digest

    def entries(self, files: Sequence[Path]) -> dict[str, Entry]:
        """The same of several, as `model_checksum` takes what is known, by name."""
        return {file.name: Entry(size=file.stat().st_size, sha256=self.sha256(file)) for file in files}


def _key(path: Path) -> str:
    found = path.stat()
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return "\t".join(map(str, (path.resolve(), found.st_dev, found.st_ino, found.st_size, *times)))
