"""Messages as training sets have them. The store's JSON -> **contents of one kind**, so that a column has one type.

Contents are plain strings as long as all pictures of every row stand before the text of its first user message, which
is what plain strings mean to our readers and to TRL. Else they are lists of parts, in all rows.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from pangu_rl.errors import DataError
from rollout.export.catalogue import Catalogue
from rollout.export.stream import in_order

Message = dict[str, Any]
IMAGE = {"type": "image"}
_HAS_PARTS = """messages LIKE '%"content": [%'"""


def needs_parts(catalogue: Catalogue) -> bool:
    """Whether the contents of the rows in the table `selected` must be lists of parts."""
    listed = f"(SELECT position FROM rollouts WHERE {_HAS_PARTS})"
    query = f"SELECT position FROM selected WHERE position IN {listed} ORDER BY position"
    for _, _, rows in in_order(catalogue, query, ["messages", "images"]):
        for messages, images in zip(rows["messages"].to_pylist(), rows["images"].to_pylist(), strict=True):
            if _as_strings(messages, len(images)) is None:
                return True
    return False


def prompt_messages(stored: str, pictures: int, *, parts: bool) -> list[Message]:
    """The messages of a stored prompt with `pictures`, their contents strings or lists of parts.

    Raises:
        DataError: a message holds more than a role and a content of texts and pictures, which this form cannot carry.
    """
    if not parts:
        strings = _as_strings(stored, pictures)
        assert strings is not None, "needs_parts has looked at every row"
        return strings
    messages = _parsed(stored)
    if any(isinstance(message["content"], list) for message in messages):
        return [{**message, "content": _as_parts(message["content"])} for message in messages]
    first = next((n for n, message in enumerate(messages) if message["role"] == "user"), 0)
    return [
        {**message, "content": [*[IMAGE] * (pictures if n == first else 0), *_as_parts(message["content"])]}
        for n, message in enumerate(messages)
    ]


def answer_message(text: str, *, parts: bool) -> Message:
    return {"role": "assistant", "content": _as_parts(text) if parts else text}


def prompt_text(stored: str) -> str:
    """All text of the messages, one after the other."""
    return "\n".join(part.get("text", "") for message in _parsed(stored) for part in _as_parts(message["content"]))


@functools.lru_cache(maxsize=64)  # a group's rows stand together and share their messages
def _parsed(stored: str) -> list[Message]:
    messages = json.loads(stored)
    for message in messages:
        if extra := sorted(set(message) - {"role", "content"}):
            raise DataError(f"a message of a stored prompt has the key {extra[0]!r}: only raw rollouts can carry it")
        for part in _as_parts(message["content"]):
            if part.get("type") not in ("text", "image", "video"):
                raise DataError(f"a stored prompt has a part {part!r:.60}: only raw rollouts can carry it")
    return messages


@functools.lru_cache(maxsize=64)
def _as_strings(stored: str, pictures: int) -> list[Message] | None:
    """The same messages with strings as contents; None if a picture would change its place."""
    found = []
    left = pictures
    for message in _parsed(stored):
        content = message["content"]
        if isinstance(content, list):
            leading = next((n for n, part in enumerate(content) if part["type"] != "image"), len(content))
            texts = [part.get("text") for part in content[leading:]]
            if len(texts) != 1 or texts[0] is None:
                return None
            if leading:
                first_user = message["role"] == "user" and all(earlier["role"] != "user" for earlier in found)
                if leading != pictures or not first_user:
                    return None
                left = 0
            content = texts[0]
        found.append({**message, "content": content})
    lists = any(isinstance(message["content"], list) for message in _parsed(stored))
    return None if lists and left else found


def _as_parts(content: str | Sequence[Message]) -> list[Message]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
