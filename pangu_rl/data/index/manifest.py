"""What an index says of itself: **files, shards and counts**, in one JSON file that is written last.

A file is the one that was indexed when size, time of change and both ends are the same. Where the time alone differs
(a copy, `touch`), its whole content is compared: the digest of that costs nothing at build, where JSONL is read anyway,
and lets an index move with its data. Its content is what a checkpoint remembers; times are not.
"""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import xxhash

from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.data.index.files import content_digest, edges_digest
from pangu_rl.errors import DataError
from pangu_rl.storage.copies import local_copy

VERSION = 2
MANIFEST = "manifest.json"
THREADS = 32
"""That look at files: on a shared file system each waits for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedFile:
    path: str
    """Relative to the folder of the index."""
    size: int
    modified_ns: int
    edges: str
    """xxh3-128 of both ends."""
    digest: str
    """xxh3-128 of the content, see `content_digest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A range of one file's rows."""

    file: int
    first: int
    """Rows of the file before the range, as messages number them."""
    rows: int
    """Sound ones, which the shard lists."""
    sources: dict[str, int]
    """Rows of each source; a row's code is the place of its source here."""
    digest: str
    """xxh3-128 of the ids' hashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A row that is not in the index."""

    file: int
    number: int
    """From 1."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    files: tuple[IndexedFile, ...]
    shards: tuple[Shard, ...]
    id_bits: int
    """The ids lie in 2 ** id_bits files, by the first bits of their hashes."""
    left_out: int
    """Rows that are not in the index."""
    problems: tuple[Problem, ...]
    """The first of them, in order."""

    @cached_property
    def digest(self) -> str:
        """Of all content and of which rows are in: what a checkpoint compares; hex."""
        parts = [*(file.digest for file in self.files), *(f"{shard.rows} {shard.digest}" for shard in self.shards)]
        return xxhash.xxh3_128_hexdigest("\n".join(parts).encode())

    def write(self, folder: Path) -> None:
        write_whole(folder / MANIFEST, json.dumps({"version": VERSION, **dataclasses.asdict(self)}) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """
    Raises:
        DataError: no index, or one of another version.
    """
    try:
        tree: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if tree.pop("version") != VERSION:
            raise ValueError("it is of another version")
        files, shards, problems = (
            tuple(kind(**entry) for entry in tree.pop(name))
            for name, kind in (("files", IndexedFile), ("shards", Shard), ("problems", Problem))
        )
        return Manifest(files=files, shards=shards, problems=problems, **tree)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}: no index of rows that can be read ({error}): make it by `pangu-rl index`") from None


def compared(folder: Path, manifest: Manifest) -> tuple[Manifest, list[str]]:
    """The index as it is now, and a line for each file that is no longer what was indexed, both digests in it.

    Other times of the same content are written down, so that it is read once.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="index") as threads:
        found = list(threads.map(partial(_compared, folder), manifest.files))
    changed = [file for file in found if isinstance(file, str)]
    files = tuple(file for file in found if isinstance(file, IndexedFile))
    if not changed and files != manifest.files:
        manifest = dataclasses.replace(manifest, files=files)
        with suppress(OSError):  # an index that cannot be written only costs the time
            manifest.write(folder)
    return manifest, changed


def _compared(folder: Path, file: IndexedFile) -> IndexedFile | str:
    path = (folder / file.path).resolve()
    try:
        local_copy(path)
        status = path.stat()
        edges = edges_digest(path)
        if (status.st_size, edges) == (file.size, file.edges):
            if status.st_mtime_ns == file.modified_ns:
                return file
            if (now := content_digest(path)) == file.digest:
                return dataclasses.replace(file, modified_ns=status.st_mtime_ns)
            return f"{path} has changed since its rows were indexed: digest {file.digest[:16]}, now {now[:16]}"
    except OSError as error:
        return f"{path}: {error.strerror}; it was there when its rows were indexed"
    sizes = f"{file.size} bytes with ends {file.edges[:16]}, now {status.st_size} with {edges[:16]}"
    return f"{path} has changed since its rows were indexed: {sizes}"
