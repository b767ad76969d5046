"""Size and SHA-256 of every file of a folder: written before a checkpoint is named, verified before any rank loads it.

DeepSpeed's shards are pickles, so a checkpoint is code: nothing is loaded that the manifest does not vouch for. Hence a
cryptographic hash, and one that `sha256sum` knows; it costs a rank 0.7 s per GB, while training goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from pangu_rl.errors import CheckpointError
from pangu_rl.whole_file import flush

MANIFEST = "manifest.json"
MARKER = "COMPLETE"
SMALL_BYTES = 16 * 2**20
"""Of files that are hashed before the ranks start, which hash the others together."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of a file."""

    size: int
    sha256: str
    rank: int | None = None
    """The learner rank that wrote it; None of the driver's files."""


Check = Callable[[Path, Mapping[str, Entry]], None]
"""Reads the named files of a folder; raises CheckpointError for the first that is not what its entry says."""


def seal(directory: Path, step: int, written: Mapping[str, Entry]) -> int:
    """Write the manifest and then the marker, each file and folder flushed to disk before the next; returns bytes.

    `written` is what the ranks say of their own files, which they have hashed and flushed; the others are read here.

    Raises:
        CheckpointError: a rank's file is not here, or not whole; the folder holds a link or something else that is no
            plain file.
    """
    _require_written(directory, written)
    entries = entries_of(directory, known=written)
    listing = {name: _without_nulls(entries[name]) for name in sorted(entries)}
    write(directory / MANIFEST, json.dumps({"step": step, "files": listing}, indent=1))
    for folder, _, _ in os.walk(directory, topdown=False):
        flush(Path(folder))
    write(directory / MARKER, _sha256(directory / MANIFEST))
    flush(directory)
    return sum(entry.size for entry in entries.values())


def entries_of(directory: Path, known: Mapping[str, Entry]) -> dict[str, Entry]:
    """Of all files of a folder: those `known`, and the others hashed and flushed, one at a time: training goes on."""
    return {name: known[name] if name in known else _flushed_entry(directory / name) for name in _names(directory)}


def verify(directory: Path, step: int, check: Check) -> None:
    """Compare the manifest with the marker and with the `step` that the folder is named by, the folder with the
    manifest, and the content of every file by `check`.

    Raises:
        CheckpointError: names the first file that is missing, changed, or not vouched for; or another step's folder.
    """
    made, entries = _read_manifest(directory)
    if made != step:
        raise CheckpointError(f"{directory} was made as the checkpoint of step {made} and is named as that of {step}")
    for name in entries:
        if not _stays_inside(name):
            raise CheckpointError(f"{directory / MANIFEST} names {name!r}, which leaves the folder")
    found = set(_names(directory)) - {MANIFEST, MARKER}
    if missing := sorted(entries.keys() - found):
        raise CheckpointError(f"{directory / missing[0]} is missing")
    if extra := sorted(found - entries.keys()):
        raise CheckpointError(f"{directory / extra[0]} is not in the manifest")
    check(directory, entries)


def check_files(directory: Path, entries: Mapping[str, Entry]) -> None:
    """A `Check` by this process, in threads."""
    names = sorted(entries)
    with ThreadPoolExecutor() as threads:
        for problem in threads.map(lambda name: _problem(directory / name, entries[name]), names):
            if problem is not None:
                raise CheckpointError(problem)


def check_quickly(directory: Path, entries: Mapping[str, Entry]) -> None:
    """A `Check` of every size, and of the content of small files: what can be seen before anything is started."""
    for name in sorted(entries):
        problem = _problem(directory / name, entries[name], most=SMALL_BYTES)
        if problem is not None:
            raise CheckpointError(problem)


def write(path: Path, text: str) -> None:
    """A small file, flushed to disk."""
    path.write_text(text, encoding="utf-8")
    flush(path)


def _names(directory: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        for name in folders + files:
            path = Path(folder, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise CheckpointError(f"{path} is a link or a special file: a checkpoint holds plain files only")
        yield from (Path(folder, name).relative_to(directory).as_posix() for name in files)


def _require_written(directory: Path, written: Mapping[str, Entry]) -> None:
    for name, entry in written.items():
        path = directory / name
        if not path.is_file():
            raise CheckpointError(
                f"rank {entry.rank}'s file {name} is not in {directory}: the run directory is not shared by all nodes; "
                "set trainer.run_dir to a folder that is"
            )
        if (size := path.stat().st_size) != entry.size:
            raise CheckpointError(f"{path} has {size:,} bytes, rank {entry.rank} wrote {entry.size:,}")


def _problem(path: Path, entry: Entry, most: int | None = None) -> str | None:
    """What is wrong with a file; one of more than `most` bytes is not read."""
    try:
        size = path.stat().st_size
        read = size == entry.size and (most is None or size <= most)
        now = {"size": size, "sha256": _sha256(path) if read else entry.sha256}
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    for key, value in now.items():
        if value != getattr(entry, key):
            return f"{path} has {key} {value}, its manifest {getattr(entry, key)}"
    return None


def _flushed_entry(path: Path) -> Entry:
    entry = Entry(size=path.stat().st_size, sha256=_sha256(path))
    flush(path)
    return entry


def _without_nulls(entry: Entry) -> dict[str, int | str]:
    return {key: value for key, value in asdict(entry).items() if value is not None}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(directory: Path) -> tuple[int, dict[str, Entry]]:
    """The step, and the files."""
    for name in (MARKER, MANIFEST):
        if not (directory / name).is_file():
            raise CheckpointError(f"{directory / name} is missing")
    marker, actual = (directory / MARKER).read_text(encoding="utf-8").strip(), _sha256(directory / MANIFEST)
    if marker != actual:
        raise CheckpointError(f"{directory / MANIFEST} has sha256 {actual}, its marker {marker}")
    listing = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    return listing["step"], {name: Entry(**entry) for name, entry in listing["files"].items()}


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name
