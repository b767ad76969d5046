"""Files inside a plain tar, read where they lie: nothing is ever unpacked, so no member's name can leave a folder.

`shard-000.tar/0001.jpg` under the media root is the member `0001.jpg` of that file.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pangu_rl.config.paths import cache_root
from pangu_rl.errors import DataError
from pangu_rl.whole_file import whole_file

SUFFIX = ".tar"
Members = dict[str, tuple[int, int]]
"""Name of a regular file in a tar -> where its bytes begin, and how many they are."""
KEPT = 64
"""Tars whose members one process holds in memory."""
INDEXED = 1000
"""Members from which on they are written down: finding them takes a read of every header, half a second for 10,000."""


def split_at_shard(path: Path) -> tuple[Path, str] | None:
    """The tar that `path` leads into, and the member's name there; None if no part of it is a tar."""
    for parent in path.parents:
        if parent.suffix == SUFFIX and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def members(shard: Path) -> Members:
    """The regular files in `shard`, in its order, without links and devices; of two of one name the last counts.

    Those of a large tar are found once and kept in the cache, for every process and run, as long as size and time of
    the file stay the same.

    Raises:
        DataError: no tar, or a compressed one, whose members cannot be found without reading all before them.
    """
    status = shard.stat()
    return _members(shard, status.st_mtime_ns, status.st_size)


def read_member(shard: Path, name: str, max_bytes: int) -> bytes:
    """The bytes of one member.

    Raises:
        DataError: as `members`; no such member, an empty one, or one of more than `max_bytes`.
    """
    found = members(shard).get(name)
    if found is None:
        raise DataError(f"{shard.name} has no file {name[:100]!r}")
    start, size = found
    if not 0 < size <= max_bytes:
        raise DataError(f"{shard.name}: {name[:100]!r} has {size} bytes, it must have 1 to {max_bytes}")
    with shard.open("rb") as file:
        file.seek(start)
        return file.read(size)


@lru_cache(maxsize=KEPT)
def _members(shard: Path, changed: int, size: int) -> Members:
    index = cache_root() / "tar_indexes" / f"{hashlib.sha256(str(shard.resolve()).encode()).hexdigest()[:32]}.json"
    identity = [changed, size]
    with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or one that a crash of the machine cut
        kept = json.loads(index.read_text(encoding="utf-8"))
        if kept["identity"] == identity:
            return {name: (start, length) for name, start, length in kept["members"]}
    found = _scanned(shard)
    if len(found) >= INDEXED:
        with suppress(OSError):  # a cache that cannot be written only costs the time
            index.parent.mkdir(parents=True, exist_ok=True)
            kept = {"identity": identity, "members": [[name, *place] for name, place in found.items()]}
            with whole_file(index) as partial:
                partial.write_text(json.dumps(kept), encoding="utf-8")
    return found


def _scanned(shard: Path) -> Members:
    try:
        with tarfile.open(shard, "r:") as tar:
            return {
                member.name.removeprefix("./"): (member.offset_data, member.size) for member in tar if member.isreg()
            }
    except tarfile.TarError as error:
        raise DataError(f"{shard}: no plain tar file that can be read: {error}") from None
