"""Pictures that rows carry within themselves: bytes -> **a file in the cache, named by its content**.

Rows, the store and reports name pictures by text, so a row's bytes are kept once under `embedded:<sha256>`, for every
stage and process of a machine. Only what has that hash is ever read under that name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path

from pangu_rl.config.paths import cache_root
from pangu_rl.errors import DataError
from pangu_rl.whole_file import whole_file

SCHEME = "embedded:"
_NAME = re.compile(r"embedded:([0-9a-f]{64})(?:/(.*))?", re.DOTALL)
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")
_BARE = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/]{50,}={0,2}$")
"""How PNG, JPEG, GIF and RIFF begin, and no dot, so no file name."""


def keep(content: bytes, path: str = "") -> str:
    """The name under which `content` is kept from now on; `path` is what its row calls it.

    Raises:
        DataError: no bytes.
    """
    if not content:
        raise DataError(f"picture {path[:100]!r}: is embedded and has 0 bytes")
    digest = hashlib.sha256(content).hexdigest()
    file = _folder() / digest
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            partial.write_bytes(content)
    return f"{SCHEME}{digest}" + (f"/{path}" if path else "")


def from_text(text: str) -> bytes | None:
    """The bytes of a `data:image/...;base64,` address, or of a PNG, JPEG, GIF or WebP in bare base64; None of another
    text, which is a path.

    Raises:
        DataError: it is such an address, and is no base64.
    """
    head = _DATA_URL.match(text)
    if head is None and not _BARE.match(text):
        return None
    try:
        return base64.b64decode(text[head.end() if head else 0 :], validate=True)
    except (binascii.Error, ValueError) as error:
        if head is None:
            return None
        raise DataError(f"picture {text[:40]!r}: is no base64: {error}") from None


def kept_file(path: str) -> Path | None:
    """The file of a kept picture; None of any other path."""
    found = _NAME.fullmatch(path)
    return _folder() / found[1] if found else None


def original(path: str) -> tuple[str, str] | None:
    """(sha256, path in the row) of a kept picture whose row named a path too."""
    found = _NAME.fullmatch(path)
    return (found[1], found[2]) if found and found[2] else None


def _folder() -> Path:
    return cache_root() / "embedded"
