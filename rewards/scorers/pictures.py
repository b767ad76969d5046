"""Pictures as data: a path under the media root -> a data URL. Nothing else is ever read, and no address is fetched."""

from __future__ import annotations

import base64
import io
import os
import stat
from pathlib import Path

from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 50_000_000
"""More is a decompression bomb for whoever decodes it."""
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


class BadPicture(Exception):
    """A picture that is not sent; one line."""


def picture_url(path: str, media_root: Path | None, max_bytes: int) -> str:
    """The file at `path`, relative to `media_root`, as a base64 data URL.

    Raises:
        BadPicture: no media root, a path that leaves it, no regular file, too large, or no PNG, JPEG or WebP.
    """
    if media_root is None:
        raise BadPicture(f"picture {path!r}: set scorers.media_root to the folder that pictures lie in")
    content = _read(_inside(path, media_root), path, max_bytes)
    return f"data:{_mime_type(content, path)};base64,{base64.b64encode(content).decode('ascii')}"


def _inside(path: str, media_root: Path) -> Path:
    if "\0" in path or "\\" in path or "://" in path or path.startswith("data:") or Path(path).is_absolute():
        raise BadPicture(f"picture {path[:100]!r}: must be a path relative to the media root")
    try:
        root = media_root.resolve()
        resolved = (root / path).resolve()
    except (OSError, RuntimeError, ValueError):
        raise BadPicture(f"picture {path[:100]!r}: cannot be resolved") from None
    if not resolved.is_relative_to(root):
        raise BadPicture(f"picture {path[:100]!r}: leaves the media root")
    return resolved


def _read(resolved: Path, path: str, max_bytes: int) -> bytes:
    try:
        with open(resolved, "rb", opener=_open_no_link) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadPicture(f"picture {path[:100]!r}: is no regular file")
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise BadPicture(f"picture {path[:100]!r}: {error.strerror}") from None
    if len(content) > max_bytes:
        raise BadPicture(f"picture {path[:100]!r}: larger than scorers.max_image_mib ({max_bytes} bytes)")
    return content


def _open_no_link(path: str, flags: int) -> int:
    # NONBLOCK: a named pipe in the folder must not hang the scorer.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _mime_type(content: bytes, path: str) -> str:
    """By the header alone; nothing is decoded here."""
    try:
        with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as image:
            width, height = image.size
            mime_type = FORMATS[image.format]
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        raise BadPicture(f"picture {path[:100]!r}: is no {', '.join(FORMATS)}") from None
    if width * height > MAX_PIXELS:
        raise BadPicture(f"picture {path[:100]!r}: {width} x {height} pixels, the limit is {MAX_PIXELS}")
    return mime_type
