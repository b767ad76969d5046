"""Where things live: the cache of prepared models, prompt sets and SFT starts, and the `cache://` paths into it."""

from __future__ import annotations

import os
from pathlib import Path

from pangu_rl.errors import ConfigError

CACHE_SCHEME = "cache://"


def cache_root() -> Path:
    """`$PANGU_RL_CACHE`, else `~/.cache/pangu_rl`."""
    return Path(os.environ.get("PANGU_RL_CACHE") or Path.home() / ".cache" / "pangu_rl")


def resolve_path(path: str) -> Path:
    """A path as written in a configuration -> a path on disk; `cache://a/b` lies under the cache root.

    Raises:
        ConfigError: a `cache://` path that leaves the cache.
    """
    if not path.startswith(CACHE_SCHEME):
        return Path(path).expanduser()
    root = cache_root().resolve()
    resolved = (root / path.removeprefix(CACHE_SCHEME)).resolve()
    if not resolved.is_relative_to(root):
        raise ConfigError(f"{path}: leaves the cache {root}")
    return resolved
