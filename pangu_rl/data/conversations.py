"""The rows of SFT: whole conversations that end with the assistant's turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pangu_rl.data.chat.turns import is_trained, text_of, trained_last_alone, without_reasoning
from pangu_rl.data.fields.bad_row import BadRow, Row, text_field
from pangu_rl.data.fields.messages import message_list, prompt_messages, require_answer, tool_list
from pangu_rl.data.files.rows import Check, Loaded, OnBadRow, load_records
from pangu_rl.data.formats.reading import AS_OURS, Reading
from pangu_rl.data.media.columns import is_time_precise, media_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One SFT row; every assistant turn in it is trained, but those with `train` false."""

    uid: str
    messages: tuple[dict[str, Any], ...]
    images: tuple[str, ...] = ()
    """Paths of pictures, relative to the media root, in the order of their placeholders."""
    videos: tuple[str, ...] = ()
    """Likewise of videos; contents are parts then."""
    time_precise: bool = False
    source: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the functions that the assistant may call."""


def load_conversations(
    path: Path,
    *,
    on_bad_row: OnBadRow = "refuse",
    check: Check[Conversation] | None = None,
    reading: Reading = AS_OURS,
) -> Loaded[Conversation]:
    """Read SFT rows: `messages` that end with the assistant's turn, or `prompt` and `response`.

    Raises:
        DataError: no such file, no usable row, or a bad row that may not be skipped; names file and row.
    """
    return load_records(
        path,
        "conversation",
        on_bad_row=on_bad_row,
        parse=lambda row, uid: trained_conversation(row, uid, reading),
        check=check,
        reading=reading,
    )


def trained_conversation(row: Row, uid: str, reading: Reading) -> Conversation:
    """One row of our columns -> a conversation of which what `reading` says is trained; raises `BadRow`."""
    conversation = parse_conversation(row, uid)
    if reading.reasoning == "strip":
        conversation = replace(conversation, messages=without_reasoning(conversation.messages))
        _require_answers(conversation.messages)
    if reading.turns == "last":
        conversation = replace(conversation, messages=trained_last_alone(conversation.messages))
    return conversation


def parse_conversation(row: Row, uid: str) -> Conversation:
    """One row -> a conversation; raises `BadRow` with the key at fault."""
    if row.get("messages") is not None:
        messages = message_list(row)
        _require_same(row, messages)
    else:
        messages = (*prompt_messages(row), {"role": "assistant", "content": text_field(row, "response")})
    if messages[0]["role"] == "assistant":
        raise BadRow("messages begin with an assistant turn: there is no prompt to answer")
    if messages[-1]["role"] != "assistant":
        raise BadRow(f"messages end with a {messages[-1]['role']} turn: SFT trains the assistant's, put it last")
    if not any(map(is_trained, messages)):
        raise BadRow("no assistant turn is trained: all have weight 0")
    messages, images, videos = media_of(row, messages)
    _require_answers(messages)
    return Conversation(
        uid=uid,
        messages=messages,
        images=images,
        videos=videos,
        time_precise=is_time_precise(row),
        source=text_field(row, "source", ""),
        tools=tool_list(row),
    )


def _require_same(row: Row, messages: Sequence[Row]) -> None:
    """`prompt` and `response` beside `messages` are not read: they may say the same, nothing else.

    Raises:
        BadRow: they say something else.
    """
    said = {text_of(message) for message in messages}
    for key in ("prompt", "response"):
        if isinstance(text := row.get(key), str) and text and text not in said:
            raise BadRow(
                f"the row has messages and a {key} that is none of them: "
                "make it a turn of theirs, or take one of the two out"
            )


def _require_answers(messages: Sequence[Row]) -> None:
    for index, message in enumerate(messages):
        if is_trained(message):
            last = index == len(messages) - 1
            require_answer(message, "the last assistant turn" if last else f"the assistant turn messages[{index}]")
