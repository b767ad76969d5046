"""A row's pictures and videos: whether **all of them are there**, without opening one."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pangu_rl.data.images import image_paths
from pangu_rl.data.rows import BadRow
from pangu_rl.errors import DataError
from pretrain.processing.media_root import named, open_inside
from pretrain.processing.shards import members, split_at_shard


def missing_media(row: Mapping[str, Any], media_root: Path | None) -> str | None:
    """Why one of the row's `images` or `videos` cannot be read, or None; without a media root none is looked for.

    Raises:
        BadRow: the keys are no lists of paths.
    """
    paths = image_paths(dict(row))
    if row.get("videos") is not None:
        try:
            paths += image_paths({"images": row["videos"]})
        except BadRow:
            raise BadRow("key videos is no list of paths") from None
    if media_root is None:
        return None
    return next((problem for path in paths if (problem := _problem(path, media_root))), None)


def _problem(path: str, root: Path) -> str | None:
    if not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts:
        try:
            status = os.stat(root / path)
        except (OSError, ValueError):
            if (shard := split_at_shard(root / path)) is not None:
                there = shard[1] in members(shard[0])
                return None if there else f"{named(path)}: {shard[0].name} has no such file"
        else:
            if stat.S_ISREG(status.st_mode) and status.st_size:
                return None
    try:
        open_inside(path, root).close()
    except DataError as error:
        return str(error)
    return None
