"""Alpaca, as LLaMA-Factory reads it: `instruction`, `input`, `output`, earlier turns in `history`."""

from __future__ import annotations

from pangu_rl.data.fields.bad_row import BadRow, Row, text_field
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.formats.format import Format, prefixed


def convert(row: Row, kind: Kind) -> Row:
    asked = [text_field(row, "instruction"), text_field(row, "input", "")]
    question = {"role": "user", "content": "\n".join(part for part in asked if part)}
    messages = prefixed(row, row.get("system"), [*history(row), question])
    converted: Row = {
        "messages": messages,
        "tools": row.get("tools"),
        "images": row.get("images"),
        "videos": row.get("videos"),
    }
    if kind == "pair":
        return converted | {"chosen": row.get("chosen"), "rejected": row.get("rejected")}
    if kind == "prompt" or (kind == "query" and not row.get("output")):
        return converted
    messages.append({"role": "assistant", "content": text_field(row, "output")})
    return converted


def history(row: Row) -> list[Row]:
    """Pairs of question and answer -> turns."""
    turns = row.get("history") or []
    if not isinstance(turns, list) or not all(isinstance(turn, (list, tuple)) and len(turn) == 2 for turn in turns):
        raise BadRow("key history is no list of [question, answer]")
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


ANSWERS = ("output", "chosen", "answer")

FORMAT = Format(
    name="alpaca",
    shown="instruction, input, output, system, history, tools, images, videos, chosen, rejected",
    recognises=lambda row: (
        isinstance(row.get("instruction"), str) and bool(row.keys() & {"output", "chosen", "answer"})
    ),
    convert=convert,
    used=frozenset(
        {"instruction", "input", "output", "system", "history", "tools", "images", "videos", "chosen", "rejected"}
    ),
    only={"chosen": ("pair",), "rejected": ("pair",), "output": ("conversation", "query")},
)
