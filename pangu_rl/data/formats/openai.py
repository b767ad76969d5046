"""OpenAI's fine-tuning files: messages with `image_url` parts as data addresses, preferences as whole outputs."""

from __future__ import annotations

from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.formats.format import Format


def convert(row: Row, kind: Kind) -> Row:
    asked = row["input"] if kind == "pair" and isinstance(row.get("input"), dict) else row
    images: list[str] = []
    messages = _messages(asked.get("messages"), "messages", images)
    converted: Row = {"messages": messages, "tools": asked.get("tools") or _functions(asked), "images": images or None}
    if kind == "pair":
        for ours, theirs in (("chosen", "preferred_output"), ("rejected", "non_preferred_output")):
            converted[ours] = _messages(row.get(theirs), theirs, images)
    return converted


def _messages(turns: Any, where: str, images: list[str]) -> list[Row]:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadRow(f"key {where} is no list of messages")
    return [_message(turn, f"{where}[{index}]", images) for index, turn in enumerate(turns)]


def _message(turn: Row, where: str, images: list[str]) -> Row:
    """`turn` with its pictures moved to `images`, and its calls as tool calls."""
    message = {key: value for key, value in turn.items() if value is not None}
    if (call := message.pop("function_call", None)) is not None:
        message["tool_calls"] = [call]
    if message.get("role") == "function":
        message["role"] = "tool"
    if isinstance(message.get("content"), list):
        message["content"] = [_part(part, f"{where}.content[{i}]", images) for i, part in enumerate(message["content"])]
    return message


def _part(part: Any, where: str, images: list[str]) -> Any:
    if not isinstance(part, dict) or part.get("type") != "image_url":
        return part
    address = part.get("image_url")
    url = address.get("url") if isinstance(address, dict) else address
    if not isinstance(url, str):
        raise BadRow(f"{where} has no url")
    images.append(url)
    return {"type": "image"}


def _functions(asked: Row) -> list[Row] | None:
    functions = asked.get("functions")
    return [{"type": "function", "function": function} for function in functions] if functions else None


def _recognises(row: Row) -> bool:
    return (isinstance(row.get("input"), dict) and "preferred_output" in row) or _within(row, "conversation")


def _within(row: Row, kind: Kind) -> bool:
    if row.keys() & {"functions", "parallel_tool_calls"}:
        return True
    turns = row.get("messages")
    return any(
        "function_call" in turn
        or (isinstance(turn.get("content"), list) and any(_is_picture(part) for part in turn["content"]))
        for turn in (turns if isinstance(turns, list) else [])
        if isinstance(turn, dict)
    )


def _is_picture(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "image_url"


FORMAT = Format(
    name="openai",
    shown="messages with image_url parts, tools or functions; or input, preferred_output, non_preferred_output",
    recognises=_recognises,
    convert=convert,
    used=frozenset({"messages", "tools", "functions", "input", "preferred_output", "non_preferred_output"}),
    only={"input": ("pair",), "preferred_output": ("pair",), "non_preferred_output": ("pair",)},
    within=_within,
    passed=frozenset({"parallel_tool_calls"}),
)
