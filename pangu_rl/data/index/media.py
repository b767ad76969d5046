"""A row's pictures and videos: whether **all of them are there**, without opening one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pangu_rl.errors import DataError
from pangu_rl.storage.copies import is_remote
from pretrain.processing.media_root import named, open_inside
from pretrain.processing.shards import members, split_at_shard

MEDIA = ("images", "videos")
"""Columns that name files."""


def missing_media(row: Mapping[str, Any], media_root: Path) -> str | None:
    """Why one of the files that the row names is not under `media_root`, or None.

    Only names are looked at: what a row holds itself, what is no name, and what lies in object storage, where each look
    is a request, is left to whoever reads it.
    """
    if is_remote(media_root):
        return None
    found = (_problem(path, media_root, name == "videos") for name in MEDIA for path in _names(row.get(name)))
    return next(filter(None, found), None)


def _names(entries: Any) -> Iterator[str]:
    for entry in entries if isinstance(entries, list | tuple) else ():
        if isinstance(entry, dict) and entry.get("bytes") is None:
            entry = entry.get("path")
        if isinstance(entry, str) and entry and not entry.startswith("data:"):
            yield entry


def _problem(path: str, root: Path, may_be_folder: bool) -> str | None:
    parts = PurePosixPath(path).parts
    if parts[0] != "/" and ".." not in parts:
        try:
            status = os.stat(root / path)
            if (stat.S_ISREG(status.st_mode) and status.st_size) or (may_be_folder and stat.S_ISDIR(status.st_mode)):
                return None
        except (OSError, ValueError):
            if (shard := split_at_shard(root / path)) is not None:
                there = shard[1] in members(shard[0])
                return None if there else f"{named(path)}: {shard[0].name} has no such file"
    try:
        open_inside(path, root).close()
    except DataError as error:
        return str(error)
    return None
