"""TRL: `prompt` and `completion`, or pairs whose answers are messages, with the prompt within them or beside them."""

from __future__ import annotations

from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.fields.messages import without_nulls
from pangu_rl.data.formats.format import Format, one_or_list


def convert(row: Row, kind: Kind) -> Row:
    if isinstance(row.get("label"), bool):
        raise BadRow("key label says which completion is good: unpaired preferences are not trained")
    converted: Row = {"tools": row.get("tools"), "images": one_or_list(row, "image", "images")}
    prompt = _turns(row["prompt"], "user", "prompt") if row.get("prompt") else []
    if kind == "pair":
        return converted | _pair(row, prompt)
    if "completion" not in row:
        raise BadRow("key completion is missing")
    if not prompt:
        raise BadRow("key prompt is missing")
    return converted | {"messages": _joined(prompt, _turns(row["completion"], "assistant", "completion"), "completion")}


def _pair(row: Row, prompt: list[Row]) -> Row:
    chosen, rejected = (_turns(row.get(key), "assistant", key) for key in ("chosen", "rejected"))
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if not prompt and not shared:
        raise BadRow("key prompt is missing, and chosen and rejected do not begin with the same turns")
    if row.get("messages"):
        _require_repeated(_turns(row["messages"], "user", "messages"), chosen, rejected)
    messages = _joined(prompt, chosen[:shared], "chosen")
    return {"messages": messages, "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _require_repeated(messages: list[Row], *answers: list[Row]) -> None:
    """`messages` beside whole conversations say one of them once more, or what it begins with, as
    `HuggingFaceH4/ultrafeedback_binarized` has it.

    Raises:
        BadRow: they are another conversation.
    """
    said = list(map(_said, messages))
    if not any(list(map(_said, turns))[: len(said)] == said for turns in answers):
        raise BadRow(
            f"messages begin with {said[0][1][:40]!r} and are the beginning of neither chosen nor rejected, which are "
            "whole conversations: take them out, or name them in data.pass_through"
        )


def _joined(prompt: list[Row], turns: list[Row], key: str) -> list[Row]:
    """The prompt and the `turns` of `key`, which either go on from it or say it once more.

    Raises:
        BadRow: they are a conversation with another prompt.
    """
    if not prompt or not turns or turns[0].get("role") in ("assistant", "tool"):
        return prompt + turns
    said, wanted = (list(map(_said, each)) for each in (turns, prompt))
    if any(said[start : start + len(wanted)] == wanted for start in range(len(said))):
        return turns
    if wanted[-1][0] in ("assistant", "tool") and said[0][0] == "user":
        return prompt + turns
    if wanted[0][0] in ("system", "developer") and said[: len(wanted) - 1] == wanted[1:]:
        return prompt[:1] + turns
    raise BadRow(
        f"key prompt ends with {wanted[-1][1][:40]!r}, and {key} is a conversation that begins with "
        f"{said[0][1][:40]!r} and does not have that turn: take one of the two prompts out"
    )


def _said(turn: Row) -> tuple[Any, str]:
    """(role, text): two writings of one turn differ in spaces and parts."""
    content = turn.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return turn.get("role"), "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict)).strip()


def _turns(value: Any, role: str, key: str) -> list[Row]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        raise BadRow(f"key {key} is neither text nor a list of messages")
    return [without_nulls(turn) for turn in value]


def _recognises(row: Row) -> bool:
    return "completion" in row or _holds_answers(row)


def _holds_answers(row: Row) -> bool:
    return isinstance(row.get("chosen"), list) and isinstance(row.get("rejected"), list)


def _within(row: Row, kind: Kind) -> bool:
    """Our own `messages` stand beside answers alone, never beside whole conversations."""
    if not _holds_answers(row) or row.get("messages") is None:
        return _holds_answers(row)
    return kind == "pair" and all(_begins_asking(row[key]) for key in ("chosen", "rejected"))


def _begins_asking(turns: list[Any]) -> bool:
    return bool(turns) and isinstance(turns[0], dict) and turns[0].get("role") not in ("assistant", "tool")


FORMAT = Format(
    name="trl",
    shown="prompt and completion, or prompt, chosen and rejected, as text or messages; tools, images",
    recognises=_recognises,
    convert=convert,
    used=frozenset({"messages", "prompt", "completion", "chosen", "rejected", "label", "tools", "image", "images"}),
    only={
        "messages": ("pair",),
        "chosen": ("pair",),
        "rejected": ("pair",),
        "completion": ("conversation", "query"),
    },
    within=_within,
)
