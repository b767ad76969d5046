"""Size and SHA-256 of every file of a folder: written before a checkpoint is named, verified before any rank loads it.

DeepSpeed's shards are pickles, so a checkpoint is code: nothing is loaded that the manifest does not vouch for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from pangu_rl.errors import CheckpointError

MANIFEST = "manifest.json"
MARKER = "COMPLETE"


def seal(directory: Path, step: int) -> int:
    """Write the manifest and then the marker, each file and folder flushed to disk before the next; returns bytes.

    Raises:
        CheckpointError: the folder holds a link or something else that is no plain file.
    """
    names = sorted(_names(directory))
    with ThreadPoolExecutor() as threads:
        entries = dict(zip(names, threads.map(lambda name: _entry(directory / name), names), strict=True))
    for name in names:
        flush(directory / name)
    write(directory / MANIFEST, json.dumps({"step": step, "files": entries}, indent=1))
    for folder, _, _ in os.walk(directory, topdown=False):
        flush(Path(folder))
    write(directory / MARKER, _sha256(directory / MANIFEST))
    flush(directory)
    return sum(entry["size"] for entry in entries.values())


def verify(directory: Path) -> None:
    """Compare every file with the manifest and the manifest with the marker.

    Raises:
        CheckpointError: names the first file that is missing, changed, or not vouched for.
    """
    entries = _read_manifest(directory)
    for name in entries:
        if not _stays_inside(name):
            raise CheckpointError(f"{directory / MANIFEST} names {name!r}, which leaves the folder")
    found = set(_names(directory)) - {MANIFEST, MARKER}
    if missing := sorted(entries.keys() - found):
        raise CheckpointError(f"{directory / missing[0]} is missing")
    if extra := sorted(found - entries.keys()):
        raise CheckpointError(f"{directory / extra[0]} is not in the manifest")
    names = sorted(entries)
    with ThreadPoolExecutor() as threads:
        for name, entry in zip(names, threads.map(lambda name: _entry(directory / name), names), strict=True):
            for key, now in entry.items():
                if now != entries[name].get(key):
                    raise CheckpointError(f"{directory / name} has {key} {now}, its manifest {entries[name].get(key)}")


def write(path: Path, text: str) -> None:
    """A small file, flushed to disk."""
    path.write_text(text, encoding="utf-8")
    flush(path)


def flush(path: Path) -> None:
    """fsync a file or a folder, also one that another process wrote."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(directory: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        for name in folders + files:
            path = Path(folder, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise CheckpointError(f"{path} is a link or a special file: a checkpoint holds plain files only")
        yield from (Path(folder, name).relative_to(directory).as_posix() for name in files)


def _entry(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(directory: Path) -> dict[str, dict[str, Any]]:
    for name in (MARKER, MANIFEST):
        if not (directory / name).is_file():
            raise CheckpointError(f"{directory / name} is missing")
    marker, actual = (directory / MARKER).read_text(encoding="utf-8").strip(), _sha256(directory / MANIFEST)
    if marker != actual:
        raise CheckpointError(f"{directory / MANIFEST} has sha256 {actual}, its marker {marker}")
    return json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["files"]


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name
