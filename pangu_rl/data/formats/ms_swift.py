"""ms-swift: `messages` with its own roles for tools, or `query` and `response`; `rejected_response`, `solution`."""

from __future__ import annotations

from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row, text_field
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.formats.alpaca import history
from pangu_rl.data.formats.format import Format, calls, prefixed

TOOL_ROLES = ("tool_call", "tool_response")


def convert(row: Row, kind: Kind) -> Row:
    if "query" in row:
        question = {"role": "user", "content": text_field(row, "query")}
        messages = [*history(row), question]
        if row.get("response") is not None:
            messages.append({"role": "assistant", "content": text_field(row, "response")})
    else:
        messages = _messages(row.get("messages"))
    messages = prefixed(row, row.get("system"), messages)
    media = {kind: _listed(row.get(kind)) for kind in ("images", "videos")}
    converted: Row = {"messages": messages, "tools": row.get("tools"), **media}
    if kind == "pair":
        if not messages or messages[-1].get("role") != "assistant":
            raise BadRow("messages do not end with the assistant's turn, which is the answer that is preferred")
        converted |= {"messages": messages[:-1], "chosen": messages[-1:], "rejected": row.get("rejected_response")}
    elif kind in ("prompt", "query"):
        converted["answer"] = row.get("solution")
    return converted


def _messages(turns: Any) -> list[Row]:
    """Calls that follow each other are one turn of the assistant's."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadRow("key messages is no list of messages")
    messages: list[Row] = []
    for index, turn in enumerate(turns):
        rest = {key: value for key, value in turn.items() if value is not None}
        if turn.get("role") == "tool_response":
            messages.append({**rest, "role": "tool"})
        elif turn.get("role") == "tool_call":
            found = calls(rest.pop("content", None), f"messages[{index}].content")
            if messages and turns[index - 1].get("role") == "tool_call":
                messages[-1]["tool_calls"] += found
            else:
                messages.append({**rest, "role": "assistant", "content": "", "tool_calls": found})
        else:
            messages.append(rest)
    return messages


def _listed(media: Any) -> Any:
    """One path stands for a list of one."""
    return [media] if isinstance(media, (str, dict)) else media


def _recognises(row: Row) -> bool:
    if isinstance(row.get("query"), str):
        return bool(row.keys() & {"response", "rejected_response", "solution"})
    return isinstance(row.get("messages"), list) and (
        _within(row, "conversation") or bool(row.keys() & {"rejected_response", "solution"})
    )


def _within(row: Row, kind: Kind) -> bool:
    turns = row.get("messages")
    return any(
        isinstance(turn, dict) and turn.get("role") in TOOL_ROLES for turn in (turns if isinstance(turns, list) else ())
    )


FORMAT = Format(
    name="ms_swift",
    shown="messages (or query, response, history), system, tools, images, videos, rejected_response, solution",
    recognises=_recognises,
    convert=convert,
    used=frozenset(
        (
            "messages",
            "query",
            "response",
            "history",
            "system",
            "tools",
            "images",
            "videos",
            "rejected_response",
            "solution",
        )
    ),
    only={"rejected_response": ("pair",), "solution": ("prompt", "query")},
    within=_within,
    passed=frozenset({"channel"}),
)
