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
    messages = _joined(prompt, chosen[:shared], "chosen")
    return {"messages": messages, "chosen": chosen[shared:], "rejected": rejected[shared:]}


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
    return "completion" in row or _within(row)


def _within(row: Row) -> bool:
    return "messages" not in row and isinstance(row.get("chosen"), list) and isinstance(row.get("rejected"), list)


FORMAT = Format(
    name="trl",
    shown="prompt and completion, or prompt, chosen and rejected, as text or messages; tools, images",
    recognises=_recognises,
    convert=convert,
    used=frozenset({"prompt", "completion", "chosen", "rejected", "label", "tools", "image", "images"}),
    only={"chosen": ("pair",), "rejected": ("pair",), "completion": ("conversation", "query")},
    within=_within,
)
