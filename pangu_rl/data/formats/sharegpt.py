"""ShareGPT, as LLaVA and LLaMA-Factory write it: `conversations` of `from` and `value`, preferences beside them."""

from __future__ import annotations

from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.formats.format import Format, calls, one_or_list, prefixed

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "observation": "tool",
    "tool": "tool",
    "function_call": "assistant",
}
WEIGHTS = ("weight", "loss", "train")


def convert(row: Row, kind: Kind) -> Row:
    turns = row["conversations"]
    if not isinstance(turns, list) or not turns:
        raise BadRow("key conversations is no list of turns")
    messages = prefixed(row, row.get("system"), [_message(turn, f"conversations[{i}]") for i, turn in enumerate(turns)])
    converted: Row = {
        "messages": messages,
        "tools": row.get("tools"),
        "images": one_or_list(row, "image", "images"),
        "videos": one_or_list(row, "video", "videos"),
    }
    if kind == "pair":
        converted |= {key: [_message(row.get(key), key)] for key in ("chosen", "rejected")}
    return converted


def _message(turn: Any, where: str) -> Row:
    if not isinstance(turn, dict):
        raise BadRow(f'{where} is {type(turn).__name__}, not {{"from": ..., "value": ...}}')
    turn = {key: value for key, value in turn.items() if value is not None}
    sender, value = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if sender not in ROLES:
        raise BadRow(f"{where} is from {sender!r}: one of {', '.join(ROLES)}")
    if unknown := sorted(set(turn) - {"from", "role", "value", "content", *WEIGHTS}):
        raise BadRow(f"{where} has a key {unknown[0]}, which ShareGPT does not know")
    weights = {key: turn[key] for key in WEIGHTS if key in turn}
    if sender == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": calls(value, where), **weights}
    return {"role": ROLES[sender], "content": value, **weights}


FORMAT = Format(
    name="sharegpt",
    shown="conversations of from and value, system, tools, images or image, videos or video, chosen, rejected",
    recognises=lambda row: isinstance(row.get("conversations"), list),
    convert=convert,
    used=frozenset({"conversations", "system", "tools", "image", "images", "video", "videos", "chosen", "rejected"}),
    only={"chosen": ("pair",), "rejected": ("pair",)},
)
