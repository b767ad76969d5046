"""Pictures as data: a path under the media root -> a data URL. Nothing else is ever read, and no address is fetched."""

from __future__ import annotations

import base64
from pathlib import Path

from pangu_rl.errors import DataError
from pretrain.processing.media_root import named, read_inside
from pretrain.processing.pictures import read_header

MIME_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "MPO": "image/jpeg", "WEBP": "image/webp"}
"""Formats that a scorer takes. A camera's multi-picture file (MPO) is a JPEG to who reads its first picture only."""


class BadPicture(Exception):
    """A picture that is not sent; one line."""


def picture_url(path: str, media_root: Path | None, max_bytes: int) -> str:
    """The file at `path`, relative to `media_root`, as a base64 data URL.

    Raises:
        BadPicture: no media root, a path that leaves it, no regular file, too large, an animation, or no PNG, JPEG or
            WebP.
    """
    if media_root is None:
        raise BadPicture(f"picture {path!r}: set scorers.media_root to the folder that pictures lie in")
    try:
        content = read_inside(path, media_root, max_bytes)
        mime_type = MIME_TYPES.get(read_header(content, path).format)
    except DataError as error:
        raise BadPicture(f"{error} (see scorers.media_root and scorers.max_image_mib)") from None
    if mime_type is None:
        raise BadPicture(f"{named(path)}: a scorer takes {', '.join(MIME_TYPES)} only")
    return f"data:{mime_type};base64,{base64.b64encode(content).decode('ascii')}"
