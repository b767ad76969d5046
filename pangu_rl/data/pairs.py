"""The rows of DPO: a prompt, the response that was preferred, and the one that was not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pangu_rl.data.chat.turns import is_trained, without_reasoning
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.fields.bad_row import BadRow, Row, is_blank, text_field
from pangu_rl.data.fields.messages import message_list, prompt_messages, require_answer, tool_list
from pangu_rl.data.files.rows import Check, Loaded, OnBadRow, load_records
from pangu_rl.data.formats.reading import AS_OURS, Reading
from pangu_rl.data.images import with_image_parts
from pangu_rl.data.media.columns import is_time_precise, media_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One preference."""

    uid: str
    messages: tuple[dict[str, Any], ...]
    """Chat messages up to where the assistant answers."""
    chosen: str | dict[str, Any]
    """Text, or an assistant's message of more than text: its reasoning, its calls."""
    rejected: str | dict[str, Any]
    images: tuple[str, ...] = ()
    """Paths of pictures, relative to the media root, in the order of their placeholders."""
    videos: tuple[str, ...] = ()
    """Likewise of videos; contents are parts then."""
    time_precise: bool = False
    source: str = ""
    rejected_ended: bool = True
    """False of an answer that the limit cut: it has no end-of-turn token, and is not to be trained as if it had."""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the functions that the assistant may call."""


def load_pairs(
    path: Path,
    *,
    on_bad_row: OnBadRow = "refuse",
    check: Check[Pair] | None = None,
    reading: Reading = AS_OURS,
) -> Loaded[Pair]:
    """Read preference rows: `messages` (or `prompt`, one user message), `chosen` and `rejected`; `rejected_ended` is
    false of a rejected answer that was cut.

    Raises:
        DataError: no such file, no usable row, or a bad row that may not be skipped; names file and row.
    """

    def parse(row: Row, uid: str) -> Pair:
        pair = parse_pair(row, uid)
        return _stripped(pair) if reading.reasoning == "strip" else pair

    return load_records(path, "pair", on_bad_row=on_bad_row, parse=parse, check=check, reading=reading)


def parse_pair(row: Row, uid: str) -> Pair:
    """One row -> a pair; raises `BadRow` with the key at fault."""
    messages = prompt_messages(row)
    if messages[-1]["role"] == "assistant":
        raise BadRow("messages end with an assistant turn: `chosen` and `rejected` carry it, leave it out")
    chosen, rejected = (_response(row, key) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise BadRow(f"chosen and rejected are equal ({str(chosen)[:40]!r}): there is nothing to prefer")
    _check_scores(row)
    messages, images, videos = media_of(row, messages)
    return Pair(
        uid=uid,
        messages=messages,
        chosen=chosen,
        rejected=rejected,
        images=images,
        videos=videos,
        time_precise=is_time_precise(row),
        source=text_field(row, "source", ""),
        rejected_ended=_flag(row, "rejected_ended"),
        tools=tool_list(row),
    )


def without_queries_of(pairs: Sequence[Pair], conversations: Sequence[Conversation]) -> list[Conversation]:
    """The remaining SFT data: `conversations` whose last question, with its pictures, is that of none of the pairs."""
    asks = asked_by(pairs)
    return [row for row in conversations if not asks(row)]


def asked_by(pairs: Sequence[Pair]) -> Callable[[Conversation], bool]:
    """Whether one of `pairs` asks what a conversation asks last."""
    asked = {_query(pair.messages, pair.images, pair.videos) for pair in pairs}
    return lambda row: _query(row.messages[:-1], row.images, row.videos) in asked


def _query(messages: Sequence[Row], images: Sequence[str], videos: Sequence[str]) -> str:
    return json.dumps([with_image_parts(messages, len(images)), images, videos], sort_keys=True)


def _response(row: Row, key: str) -> str | Row:
    if isinstance(row.get(key), list):
        messages = message_list(row, key)
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            raise BadRow(
                f"key {key} is {len(messages)} messages: a response is one assistant turn, the others its prompt"
            )
        if not is_trained(messages[0]):
            raise BadRow(f"key {key} has weight 0: a response is trained")
        require_answer(messages[0], f"key {key}")
        return messages[0]["content"] if set(messages[0]) == {"role", "content"} else messages[0]
    text = text_field(row, key)
    if is_blank(text):
        raise BadRow(f"key {key} is empty: a response needs text")
    return text


def _stripped(pair: Pair) -> Pair:
    """
    Raises:
        BadRow: nothing but reasoning differs.
    """
    chosen, rejected = (
        without_reasoning([answer if isinstance(answer, dict) else {"role": "assistant", "content": answer}])[0]
        for answer in (pair.chosen, pair.rejected)
    )
    if chosen == rejected:
        raise BadRow("chosen and rejected differ in their reasoning alone, which data.reasoning strips")
    for key, answer in (("chosen", chosen), ("rejected", rejected)):
        require_answer(answer, f"key {key} without its reasoning")
    return replace(
        pair,
        messages=without_reasoning(pair.messages),
        chosen=chosen["content"] if set(chosen) == {"role", "content"} else chosen,
        rejected=rejected["content"] if set(rejected) == {"role", "content"} else rejected,
    )


def _flag(row: Row, key: str) -> bool:
    value = row.get(key, True)
    if not isinstance(value, bool):
        raise BadRow(f"key {key} is {type(value).__name__} {str(value)[:40]!r}, not true or false")
    return value


def _check_scores(row: Row) -> None:
    scores = [row.get(key) for key in ("chosen_score", "rejected_score")]
    for key, score in zip(("chosen_score", "rejected_score"), scores):
        if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
            raise BadRow(f"key {key} is {type(score).__name__} {str(score)[:40]!r}, not a number")
    if None not in scores and not scores[0] > scores[1]:
        raise BadRow(f"chosen_score {scores[0]} is not above rejected_score {scores[1]}: swap the two, or drop the row")
