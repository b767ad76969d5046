"""The rows of SFT: whole conversations that end with the assistant's turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.data.images import check_image_parts, image_paths
from pangu_rl.data.rows import BadRow, Loaded, OnBadRow, Row, load_records, message_list, text_field


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One SFT row; every assistant turn in it is trained."""

    uid: str
    messages: tuple[dict[str, Any], ...]
    images: tuple[str, ...] = ()
    """Paths of pictures, relative to the media root, in the order of their placeholders."""
    source: str = ""


def load_conversations(
    path: Path,
    *,
    on_bad_row: OnBadRow = "refuse",
    check: Callable[[Conversation], str | None] = lambda conversation: None,
) -> Loaded[Conversation]:
    """Read SFT rows: `messages` that end with the assistant's turn, or `prompt` and `response`.

    `check` returns why a conversation cannot be used (it is too long), or None.

    Raises:
        DataError: no such file, no usable row, or a bad row that may not be skipped; names file and row.
    """

    def parse(row: Row, uid: str) -> Conversation:
        conversation = parse_conversation(row, uid)
        problem = check(conversation)
        if problem is not None:
            raise BadRow(problem)
        return conversation

    return load_records(path, on_bad_row=on_bad_row, parse=parse)


def parse_conversation(row: Row, uid: str) -> Conversation:
    """One row -> a conversation; raises `BadRow` with the key at fault."""
    if row.get("messages") is not None:
        messages = message_list(row)
    else:
        messages = (
            {"role": "user", "content": text_field(row, "prompt")},
            {"role": "assistant", "content": text_field(row, "response")},
        )
    if messages[0]["role"] == "assistant":
        raise BadRow("messages begin with an assistant turn: there is no prompt to answer")
    if messages[-1]["role"] != "assistant":
        raise BadRow(f"messages end with a {messages[-1]['role']} turn: SFT trains the assistant's, put it last")
    if not messages[-1]["content"]:
        raise BadRow("the last assistant turn is empty")
    images = image_paths(row)
    check_image_parts(messages, images)
    return Conversation(uid=uid, messages=messages, images=images, source=text_field(row, "source", ""))
