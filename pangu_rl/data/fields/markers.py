"""`<image>` and `<video>` in a row's text: **where they stand**, in rows that say so by text instead of parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

MARKER, VIDEO_MARKER = "<image>", "<video>"
IMAGE_PART, VIDEO_PART = {"type": "image"}, {"type": "video"}
_PARTS = {MARKER: IMAGE_PART, VIDEO_MARKER: VIDEO_PART}
SHOWING = ("user", "tool")
"""Roles of turns that pictures may stand in."""
_TEXTS = {"messages": "", "prompt": "user", "response": "assistant", "chosen": "assistant", "rejected": "assistant"}
"""Columns of text or messages -> whose turn a text is."""
OBJECTS = ("<ref-object>", "<bbox>", "<point>")
"""What ms-swift puts the entries of a row's `objects` in place of."""
_OTHERS = re.compile(
    r"<\|?/?(?:image|img|picture|video|audio|image_pad|video_pad|vision_start|vision_end|IMG_CONTEXT"
    r"|image[_-]placeholder|image_?here|im_patch|image_soft_token|start_of_image|end_of_image)(?:[ _-]?\d{1,3})?\|?>"
    rf"|{'|'.join(OBJECTS)}|\[/?(?:img|image)\]|\{{image\}}|!\[[^\]\n]{{0,200}}\]\((?=\S)",
    re.IGNORECASE,
)

Message = dict[str, Any]
Parts = Mapping[str, Message]


def markers(messages: Iterable[Message], marker: str = MARKER) -> int:
    """Of the user's turns and of tools' results, where pictures may stand."""
    return sum(message["content"].count(marker) for message in messages if _may_show(message))


def with_parts(messages: Sequence[Message], replaced: Parts = MappingProxyType(_PARTS)) -> list[Message]:
    """Every marker of those becomes its part, the text around it stays as it is."""
    return [
        {**message, "content": _parts(message["content"], replaced)}
        if _may_show(message) and any(marker in message["content"] for marker in replaced)
        else message
        for message in messages
    ]


def spelled(row: Mapping[str, Any]) -> set[str]:
    """Markers in the texts of a row that are text: those of other systems, and `<image>` or `<video>` where none of the
    row's pictures or videos stands."""
    pictures, videos = bool(row.get("images")), bool(row.get("videos"))
    places = {marker for marker, shown in ((MARKER, pictures or videos), (VIDEO_MARKER, videos)) if shown}
    found: set[str] = set()
    for text, shows in texts_of(row):
        found |= set(_OTHERS.findall(text)) - (places if shows else set())
    return {"![](...)" if marker.startswith("![") else marker for marker in found}


def texts_of(row: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Every text that a model reads or writes, and whether a marker in it is a place."""
    turns = []
    for key, role in _TEXTS.items():
        said = row.get(key)
        turns += said if isinstance(said, (list, tuple)) else [{"role": role, "content": said}]
    contents = [(turn.get("role"), turn.get("content")) for turn in turns if isinstance(turn, dict)]
    by_parts = any(isinstance(content, list) for _, content in contents)
    for role, content in contents:
        if isinstance(content, str):
            yield content, role in SHOWING and not by_parts
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"], False


def _may_show(message: Message) -> bool:
    return message["role"] in SHOWING and isinstance(message["content"], str)


def _parts(text: str, replaced: Parts) -> list[Message]:
    pieces = re.split(f"({'|'.join(map(re.escape, replaced))})", text)
    return [replaced.get(piece, {"type": "text", "text": piece}) for piece in pieces if piece]
