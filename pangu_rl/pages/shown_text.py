"""Text of a model or a data row -> **text that can do nothing**: cut, and with its invisible characters written out.

The template escapes markup; this is about what escaping leaves: a megabyte, and marks that turn the reading direction
of everything after them.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

HEAD, TAIL = 3000, 1000
_MEDIA = {"video": "video"}
_KEPT = "\n\t"
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn")


def shown(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """`text` with at most `head` first and `tail` last characters, the number of those left out between them."""
    if len(text) <= head + tail:
        return _visible(text)
    left_out = f"\n[... {len(text) - head - tail:,} characters left out ...]\n"
    return _visible(text[:head]) + left_out + _visible(text[len(text) - tail :] if tail else "")


def one_line(text: str, limit: int = 300) -> str:
    return shown(" ".join(text[: 4 * limit].split()), limit, 0)


def conversation(messages: str) -> list[tuple[str, str]]:
    """(role, text) of each message of a stored row's JSON; a picture stands as `[picture]`, a video as `[video]`."""
    return [(one_line(str(message.get("role", "")), 30), shown(_content(message))) for message in json.loads(messages)]


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(
        part["text"] if part.get("type") == "text" else f"[{_MEDIA.get(part.get('type'), 'picture')}]"
        for part in content
    )


def _visible(text: str) -> str:
    return "".join(c if c in _KEPT or unicodedata.category(c) not in _INVISIBLE else f"[U+{ord(c):04X}]" for c in text)
