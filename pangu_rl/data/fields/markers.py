"""`<image>` in a row's text: **where its pictures stand**, in rows that say so by text instead of parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

MARKER = "<image>"
IMAGE_PART = {"type": "image"}
_OTHERS = re.compile(
    r"<\|?/?(?:image|img|picture|video|audio|image_pad|video_pad|vision_start|vision_end|IMG_CONTEXT|image_placeholder"
    r"|image_?here|im_patch|image_soft_token)(?:[ _-]?\d{1,3})?\|?>|\[/?(?:img|image)\]|\{image\}",
    re.IGNORECASE,
)

Message = dict[str, Any]


def markers(messages: Iterable[Message]) -> int:
    """Of the user's turns and of tools' results, where pictures may stand."""
    return sum(message["content"].count(MARKER) for message in messages if _may_show(message))


def with_parts(messages: Sequence[Message]) -> list[Message]:
    """Every marker becomes an image part, the text around it stays as it is."""
    return [
        {**message, "content": _parts(message["content"])}
        if _may_show(message) and MARKER in message["content"]
        else message
        for message in messages
    ]


def spelled(texts: Iterable[str], pictures: bool) -> set[str]:
    """Markers in `texts` that are text: those of other systems, and `<image>` in a row without pictures."""
    found = {match for text in texts for match in _OTHERS.findall(text)}
    return found - {MARKER} if pictures else found


def _may_show(message: Message) -> bool:
    return message["role"] in ("user", "tool") and isinstance(message["content"], str)


def _parts(text: str) -> list[Message]:
    pieces = text.split(MARKER)
    parts: list[Message] = []
    for index, piece in enumerate(pieces):
        if index:
            parts.append(IMAGE_PART)
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts
