"""A path in the cache of remote files -> **the file is there**: fetched whole, once, and kept as long as it is used.

`pangu_rl.config.paths` says where the copy of `s3://bucket/a/b` lies: `<cache>/remote/s3/bucket/a/b`. So whatever opens
files goes on with paths, and asks here first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangu_rl.config.paths import remote_address, remote_root
from pangu_rl.errors import DataError, RunError, UserError
from pangu_rl.storage.drivers import file_system
from pangu_rl.storage.space import PARTIAL, alone, make_room, require_room, used_now

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

LOCKS = 256
"""Files that keep two processes from fetching the same thing at once."""


def is_remote(path: Path) -> bool:
    """Whether `path` is the place of a copy."""
    return str(path).startswith(f"{remote_root()}{os.sep}")


def local_copy(path: Path) -> Path:
    """`path`, which is there afterwards if it is the place of a copy; any other is none of our business.

    Raises:
        FileNotFoundError: no such file in its storage. RunError: it cannot be fetched. ConfigError: as `file_system`
            and `make_room`.
    """
    if not is_remote(path):
        return path
    used_now(path)  # first: what was used now does not leave between the look and its opening
    if not path.is_file():
        with _alone(path):
            if not path.is_file():
                _fetch(path)
    return path


def bring(paths: Sequence[Path]) -> None:
    """Fetch files, and the files of folders, anew where they have changed: size and time of change tell. What is gone
    from its storage goes here too.

    Raises:
        DataError: nothing is there. ConfigError: more than the cache holds; RunError and others as `local_copy`.
    """
    there = [_listed(path) for path in paths]
    names = ", ".join(map(remote_address, paths))
    require_room(sum(size for files in there for size, _ in files.values()), names)
    for path, files in zip(paths, there, strict=True):
        for copy in [path] if path.is_file() else path.rglob("*"):
            # Another process may be fetching into the same folder.
            if not PARTIAL.fullmatch(copy.name) and copy.is_file() and not _is_of(copy, files.get(copy)):
                copy.unlink(missing_ok=True)
        for copy in files:
            local_copy(copy)


def has_folder(path: Path) -> bool:
    """Whether a folder is at `path`, on disk or in its storage; raises as `local_copy`."""
    if not is_remote(path):
        return path.is_dir()
    system, name = file_system(address := remote_address(path))
    with _reaching(address):
        return system.isdir(name)


def folder_names(path: Path) -> list[str] | None:
    """Names in the folder at `path`, on disk or in its storage, where a part of it may be fetched already; None of what
    is no folder. Raises as `local_copy`."""
    if not is_remote(path):
        return os.listdir(path) if path.is_dir() else None
    if path.is_file():
        return None
    system, name = file_system(address := remote_address(path))
    with _reaching(address):
        return [os.path.relpath(file, name) for file in system.ls(name, detail=False)] if system.isdir(name) else None


def _listed(path: Path) -> dict[Path, tuple[int, int]]:
    """Copy -> (size, time of change) of the file at `path`, or of each under it."""
    system, name = file_system(address := remote_address(path))
    with _reaching(address):
        found = system.find(name, detail=True)
        if not found:
            raise DataError(f"{address}: no such file or folder")
        return {
            path if file == name else path / os.path.relpath(file, name): (info["size"], _changed(system, file, info))
            for file, info in sorted(found.items())
        }


def _fetch(path: Path) -> None:
    system, name = file_system(address := remote_address(path))
    partial = path.with_name(f".{path.name[:200]}.{os.getpid()}.{threading.get_ident()}")
    try:
        with _reaching(address):
            info = system.info(name)
            if info["type"] != "file":
                raise FileNotFoundError
            make_room(remote_root(), info["size"], address)
            path.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(name, str(partial))
            changed = _changed(system, name, info)
        if (size := partial.stat().st_size) != info["size"]:
            raise RunError(f"{address}: {size} bytes came of {info['size']}; the same command goes on")
        os.utime(partial, ns=(time.time_ns(), changed))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _is_of(copy: Path, known: tuple[int, int] | None) -> bool:
    try:
        status = copy.stat()
    except FileNotFoundError:  # it left meanwhile
        return False
    return known == (status.st_size, status.st_mtime_ns)


def _changed(system: AbstractFileSystem, name: str, info: dict[str, Any]) -> int:
    """Of the file's last change, in whole microseconds of nanoseconds, as far as its storage knows."""
    found = next((info[key] for key in ("mtime", "LastModified", "last_modified", "created") if info.get(key)), None)
    if isinstance(found, datetime):
        return int(found.timestamp() * 1e6) * 1000
    if isinstance(found, int | float):
        return int(found * 1e6) * 1000
    return int(hashlib.sha256(str(system.checksum(name)).encode()).hexdigest()[:12], 16) * 1000


def _alone(path: Path) -> AbstractContextManager[None]:
    """Who comes second finds the copy."""
    return alone(remote_root(), str(int(hashlib.sha256(str(path).encode()).hexdigest(), 16) % LOCKS))


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), address) from None
    # Drivers raise errors of the libraries below them: botocore, aiohttp, Arrow. None is the fault of a row.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(f"{address}: cannot be fetched: {reason}; the same command goes on") from None
