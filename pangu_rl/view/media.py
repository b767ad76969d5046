"""A content's hash -> **the file that the store keeps of it**. Nothing of a request becomes part of a path but a hash
that was checked letter by letter, and the type is that of the store's own list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from rollout.kept.pictures import FOLDER
from rollout.kept.videos import VIDEO_FOLDER

PICTURES = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
}
VIDEOS = {".mp4": "video/mp4", ".mkv": "video/x-matroska", ".avi": "video/x-msvideo"}
_HASH = re.compile(r"[0-9a-f]{64}")


def kept_file(folders: Iterable[Path], sha256: str) -> tuple[Path, str] | None:
    """The file and its media type, in the first of the runs' `folders` that has it."""
    if not _HASH.fullmatch(sha256):
        return None
    for folder in folders:
        for place, types in ((FOLDER, PICTURES), (VIDEO_FOLDER, VIDEOS)):
            for suffix, kind in types.items():
                path = folder / "rollouts" / place / (sha256 + suffix)
                if path.is_file() and not path.is_symlink():  # the store makes none
                    return path, kind
    return None
