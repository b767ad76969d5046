"""The one way to a picture or video file: a relative path, under the media root, to a regular file. Path -> **bytes**.

Paths come out of data rows, so they are hostile until they have passed here. No address in a row is fetched; where the
media root itself is one, what lies under it is.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from pangu_rl.errors import DataError
from pangu_rl.storage.copies import is_remote, local_copy
from pretrain.processing.embedded import kept_file
from pretrain.processing.shards import SUFFIX, read_member, split_at_shard

MAX_MEMBER_BYTES = 2**30
"""Of a file in a tar, which is read whole."""


def resolve_inside(path: str, media_root: Path) -> Path:
    """The file that `path` means, with every link followed; that of an embedded picture lies in the cache.

    Raises:
        DataError: an absolute path, an address, or a path that leaves `media_root` by `..` or through a link.
    """
    if (kept := kept_file(path)) is not None:
        return kept
    if "\0" in path or "\\" in path or "://" in path or path.startswith("data:") or Path(path).is_absolute():
        raise DataError(f"{named(path)}: must be a path relative to the media root")
    try:
        root = media_root.resolve()
        resolved = (root / path).resolve()
    except (OSError, RuntimeError, ValueError):
        raise DataError(f"{named(path)}: cannot be resolved") from None
    if not resolved.is_relative_to(root):
        raise DataError(f"{named(path)}: leaves the media root")
    return resolved


def open_inside(path: str, media_root: Path) -> BinaryIO:
    """The file at `path`, open for reading, on disk or in a tar; the caller closes it.

    Raises:
        DataError: as `resolve_inside`; also no file there, no regular file, or an empty one.
    """
    resolved = _present(path, resolve_inside(path, media_root))
    if in_shard := split_at_shard(resolved):
        return io.BytesIO(read_member(*in_shard, MAX_MEMBER_BYTES))
    try:
        # NOFOLLOW: the last step was resolved already. NONBLOCK: a named pipe in the folder must not hang the reader.
        descriptor = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DataError(f"{named(path)}: {error.strerror}") from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise DataError(f"{named(path)}: is " + ("empty (0 bytes)" if stat.S_ISREG(status.st_mode) else "no regular file"))


def _present(path: str, resolved: Path) -> Path:
    """The file, fetched where the media root is in object storage; a tar that it lies in is fetched whole."""
    if is_remote(resolved):
        tar = next((parent for parent in reversed(resolved.parents) if parent.suffix == SUFFIX), None)
        try:
            local_copy(tar or resolved)
        except OSError as error:
            raise DataError(f"{named(path)}: {error.strerror or error}") from None
    return resolved


def read_inside(path: str, media_root: Path, max_bytes: int) -> bytes:
    """All bytes of the file at `path`.

    Raises:
        DataError: as `open_inside`; also a file of more than `max_bytes`.
    """
    with open_inside(path, media_root) as file:
        content = file.read(max_bytes + 1)
        size = file.seek(0, os.SEEK_END)
    if len(content) > max_bytes:
        raise DataError(f"{named(path)}: {size} bytes, the limit is {max_bytes}")
    return content


def named(path: str) -> str:
    """A path as error messages show it: quoted, on one line, at most 100 characters of it."""
    return f"picture {path[:100]!r}"
