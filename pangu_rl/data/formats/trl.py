"""TRL: `prompt` and `completion`, or pairs whose answers are messages, with the prompt within them or beside them."""

from __future__ import annotations

from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.formats.format import Format


def convert(row: Row, kind: Kind) -> Row:
    if isinstance(row.get("label"), bool):
        raise BadRow("key label says which completion is good: unpaired preferences are not trained")
    images = row.get("images")
    if (image := row.get("image")) is not None:
        images = [image]
    converted: Row = {"tools": row.get("tools"), "images": images}
    if kind == "pair":
        return converted | _pair(row)
    if "completion" not in row:
        raise BadRow("key completion is missing")
    return converted | {
        "messages": [
            *_turns(row.get("prompt"), "user", "prompt"),
            *_turns(row["completion"], "assistant", "completion"),
        ]
    }


def _pair(row: Row) -> Row:
    chosen, rejected = (_turns(row.get(key), "assistant", key) for key in ("chosen", "rejected"))
    prompt = _turns(row["prompt"], "user", "prompt") if row.get("prompt") is not None else []
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if not prompt and not shared:
        raise BadRow("key prompt is missing, and chosen and rejected do not begin with the same turns")
    return {"messages": [*prompt, *chosen[:shared]], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _turns(value: Any, role: str, key: str) -> list[Row]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not isinstance(value, list) or not value:
        raise BadRow(f"key {key} is neither text nor a list of messages")
    return value


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
