"""`<image>` and `<video>` in a row's text: **where they stand**, in rows that say so by text instead of parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

MARKER, VIDEO_MARKER = "<image>", "<video>"
IMAGE_PART, VIDEO_PART = {"type": "image"}, {"type": "video"}
_PARTS = {MARKER: IMAGE_PART, VIDEO_MARKER: VIDEO_PART}
_OTHERS = re.compile(
    r"<\|?/?(?:image|img|picture|video|audio|image_pad|video_pad|vision_start|vision_end|IMG_CONTEXT|image_placeholder"
    r"|image_?here|im_patch|image_soft_token)(?:[ _-]?\d{1,3})?\|?>|\[/?(?:img|image)\]|\{image\}",
    re.IGNORECASE,
)

Message = dict[str, Any]


def markers(messages: Iterable[Message], marker: str = MARKER) -> int:
    """Of the user's turns and of tools' results, where pictures may stand."""
    return sum(message["content"].count(marker) for message in messages if _may_show(message))


def with_parts(messages: Sequence[Message], replaced: Sequence[str] = (MARKER,)) -> list[Message]:
    """Every marker of those becomes a part, the text around it stays as it is."""
    return [
        {**message, "content": _parts(message["content"], replaced)}
        if _may_show(message) and any(marker in message["content"] for marker in replaced)
        else message
        for message in messages
    ]


def spelled(texts: Iterable[str], pictures: bool, videos: bool = False) -> set[str]:
    """Markers in `texts` that are text: those of other systems, and `<image>` or `<video>` in a row without any."""
    found = {match for text in texts for match in _OTHERS.findall(text)}
    return found - {marker for marker, shown in ((MARKER, pictures), (VIDEO_MARKER, videos)) if shown}


def _may_show(message: Message) -> bool:
    return message["role"] in ("user", "tool") and isinstance(message["content"], str)


def _parts(text: str, replaced: Sequence[str]) -> list[Message]:
    pieces = re.split(f"({'|'.join(map(re.escape, replaced))})", text)
    return [_PARTS[piece] if piece in replaced else {"type": "text", "text": piece} for piece in pieces if piece]
