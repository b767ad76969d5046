"""Where things live: the cache of prepared models, prompt sets and SFT starts, the `cache://` paths into it, and the
copies of files that lie in object storage."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from pangu_rl.errors import ConfigError

CACHE_SCHEME = "cache://"
REMOTE = "remote"
WEB = ("http", "https", "ftp", "data")
"""Schemes that nothing is ever fetched from."""
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_NO_HOST = "@"


def at_home(path: str) -> str:
    """`~/a` and `~name/a` as the whole path; any other as it is.

    Raises:
        ValueError: nobody of that name has a home here.
    """
    found = os.path.expanduser(path)
    if found == path and path.startswith("~"):
        raise ValueError(f"{path}: {path.partition('/')[0]} is no home directory here: write the whole path")
    return found


RunDir = Annotated[str, AfterValidator(at_home)]
"""Of a run directory: no folder is called `~`."""


def cache_root() -> Path:
    """`$PANGU_RL_CACHE`, else `~/.cache/pangu_rl`."""
    return Path(os.environ.get("PANGU_RL_CACHE") or Path.home() / ".cache" / "pangu_rl")


def resolve_path(path: str) -> Path:
    """A path as written in a configuration -> a path on disk; `cache://a/b` lies under the cache root, and the copy of
    `s3://bucket/a` (or any other storage that fsspec knows) at `remote/s3/bucket/a` there.

    Raises:
        ConfigError: a `cache://` path or an address that leaves its place, or an address of the web.
    """
    if is_address(path):
        return _place(path)
    if not path.startswith(CACHE_SCHEME):
        try:
            return Path(at_home(path))
        except ValueError as error:
            raise ConfigError(str(error)) from None
    root = cache_root().resolve()
    resolved = (root / path.removeprefix(CACHE_SCHEME)).resolve()
    if not resolved.is_relative_to(root):
        raise ConfigError(f"{path}: leaves the cache {root}")
    return resolved


def is_address(path: str) -> bool:
    """Whether a path of a configuration is one in object storage."""
    return "://" in path and not path.startswith(CACHE_SCHEME)


def remote_root() -> Path:
    """Where copies of remote files lie, every link in it followed, as it is in the paths of opened files."""
    return _resolved(cache_root()) / REMOTE


def remote_address(copy: Path) -> str:
    """Of the file whose copy is at `copy`, under `remote_root`."""
    scheme, host, *names = copy.relative_to(remote_root()).parts
    return f"{scheme}://{'' if host == _NO_HOST else host}/{'/'.join(names)}"


@lru_cache
def _resolved(root: Path) -> Path:
    return root.resolve()


def _place(address: str) -> Path:
    found = _ADDRESS.fullmatch(address)
    if found is None or found[1] in WEB:
        raise ConfigError(f"{address}: no file of a disk or of object storage; nothing is fetched from the web")
    host, _, name = found[2].partition("/")
    names = [part for part in name.split("/") if part]
    if {"..", "."} & {host, *names} or "\0" in name:
        raise ConfigError(f"{address}: leaves its storage by '..' or '.': write the whole address")
    return remote_root().joinpath(found[1], host or _NO_HOST, *names)
