"""The messages of a row -> **messages with known keys**: calls as objects, one `train` for all ways to say it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pangu_rl.data.chat.turns import TRAIN, text_of
from pangu_rl.data.fields.bad_row import BadRow, Row, is_blank, text_field

ROLES = ("system", "developer", "user", "assistant", "tool")
KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content")
"""What templates read."""
WEIGHTS = (TRAIN, "weight", "loss")
"""What says that a turn is not trained: false or 0."""
FILES = ("image", "video", "image_url", "video_url", "url", "path", "file", "bytes")
"""Keys of a part that hold its file elsewhere."""
HINTS = {
    "images": "pictures belong in the row's images, each at an image part",
    "videos": "videos belong in the row's videos, each at a video part",
    "function_call": "write it as tool_calls",
    "thinking": "write it as reasoning_content",
    "reasoning": "write it as reasoning_content",
}


def message_list(row: Row, key: str = "messages") -> tuple[Row, ...]:
    """Chat messages, each with a known `role` and a `content` of text or parts, or with `tool_calls`.

    Raises:
        BadRow: with the message and the key at fault.
    """
    messages = row[key]
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise BadRow(f"key {key} is no list of messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise BadRow(f"{key}[{index}] needs a role of {', '.join(ROLES)}")
    read = tuple(_message(message, f"{key}[{index}]") for index, message in enumerate(messages))
    _drop_indices(read, key)
    return read


def prompt_messages(row: Row) -> tuple[Row, ...]:
    """The row's `messages`, or its `prompt`: one user message, or a list as `messages` is."""
    if row.get("messages") is not None:
        return message_list(row)
    if isinstance(row.get("prompt"), list):
        return message_list(row, "prompt")
    text = text_field(row, "prompt")
    if is_blank(text):
        raise BadRow("key prompt is empty")
    return ({"role": "user", "content": text},)


def tool_list(row: Row) -> tuple[Row, ...]:
    """The row's `tools`: JSON schemas of functions, as a list or as JSON text; none without it."""
    value = row.get("tools")
    if isinstance(value, str):
        value = _parsed(value, "key tools") if value.strip() else None
    if not value:
        return ()
    if not isinstance(value, list):
        raise BadRow(f"key tools is {type(value).__name__}, not a list of functions")
    return tuple(
        _tool(_parsed(tool, f"tools[{i}]") if isinstance(tool, str) else tool, i) for i, tool in enumerate(value)
    )


def require_answer(message: Row, where: str) -> None:
    """An assistant's turn that is trained says or calls something.

    Raises:
        BadRow: nobody sees anything of it.
    """
    if is_blank(text_of(message) + (message.get("reasoning_content") or "")) and not message.get("tool_calls"):
        raise BadRow(f"{where} is empty")


def _message(raw: Mapping[str, Any], where: str) -> Row:
    message = without_nulls(raw)
    if unknown := sorted(set(message) - {*KEYS, *WEIGHTS}):
        hint = HINTS.get(unknown[0], "no template reads it; take it out, or name it in data.pass_through")
        raise BadRow(f"{where} has a key {unknown[0]}: {hint}")
    kept = {key: value for key, value in message.items() if key in KEYS}
    if "tool_calls" in kept:
        kept["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(_list_of_calls(kept, where))
        ]
        if not kept["tool_calls"]:
            del kept["tool_calls"]
    if kept.get("tool_calls"):
        kept.setdefault("content", "")
    if not isinstance(kept.get("content"), (str, list)):
        raise BadRow(f"{where} needs a content of text or parts")
    for key in ("name", "tool_call_id", "reasoning_content"):
        if not isinstance(kept.get(key, ""), str):
            raise BadRow(f"{where}.{key} is {type(kept[key]).__name__}, not text")
    if isinstance(kept["content"], list):
        kept["content"] = [_part(part, f"{where}.content[{i}]") for i, part in enumerate(kept["content"])]
    if not _trained(message, where):
        kept[TRAIN] = False
    return kept


def _trained(message: Row, where: str) -> bool:
    """What `train`, `weight` or `loss` say; a turn that is not the assistant's is never trained, whatever they say."""
    for key in WEIGHTS:
        value = message.get(key)
        if value is None:
            continue
        if value not in (0, 1, "0", "1"):  # True and False are 1 and 0
            raise BadRow(
                f"{where}.{key} is {str(value)[:20]!r}: a turn is trained (1, true) or not (0, false), not in "
                "part; a whole file can have a share (data.also)"
            )
        if int(value) and message["role"] != "assistant":
            raise BadRow(
                f"{where} is a {message['role']} turn with {key} {value}: only the assistant's turns are trained"
            )
        if not int(value):
            return message["role"] != "assistant"
    return True


def _list_of_calls(message: Row, where: str) -> list[Any]:
    calls = message["tool_calls"]
    calls = _parsed(calls, f"{where}.tool_calls") if isinstance(calls, str) else calls
    if not isinstance(calls, list):
        raise BadRow(f"{where}.tool_calls is {type(calls).__name__}, not a list of calls")
    if calls and message["role"] != "assistant":
        raise BadRow(f"{where} is a {message['role']} turn with tool_calls: only the assistant calls")
    return calls


def _call(call: Any, where: str) -> Row:
    """`{"function": {"name", "arguments"}}`, its arguments an object, since templates write them as JSON themselves."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRow(f'{where} needs a function with a name: {{"function": {{"name": ..., "arguments": ...}}}}')
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _parsed(arguments, f"{where}.arguments") if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise BadRow(f"{where}.arguments is {type(arguments).__name__}, not an object")
    named = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {**named, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _tool(tool: Any, index: int) -> Row:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRow(f"tools[{index}] needs a function with a name")
    return tool if "function" in tool else {"type": "function", "function": tool}


def _part(part: Any, where: str) -> Row:
    """A part without the empty text that Parquet gives to all; `index` stays for now."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part
    if kind not in ("image", "video"):
        raise BadRow(
            f'{where} is neither {{"type": "text", "text": ...}} nor {{"type": "image"}} or {{"type": "video"}}'
        )
    kept = {key: value for key, value in part.items() if (key, value) != ("text", "")}
    if extra := sorted(set(kept) - {"type", "index"}):
        file = next((key for key in extra if key in FILES), None)
        way = f"its file belongs in the row's {kind}s" if file else "no model reads it: take it out"
        raise BadRow(f"{where} of type {kind} has {file or extra[0]}: {way}")
    return kept


def _drop_indices(messages: Sequence[Row], key: str) -> None:
    """Parts of pictures and videos may say which of the row's they are: those of their place.

    Raises:
        BadRow: another one.
    """
    seen: Counter[str] = Counter()
    for number, message in enumerate(messages):
        for place, part in enumerate(message["content"] if isinstance(message["content"], list) else ()):
            if part["type"] == "text":
                continue
            if (index := part.pop("index", seen[part["type"]])) != seen[part["type"]]:
                raise BadRow(
                    f"{key}[{number}].content[{place}] has index {index!r} and is {part['type']} "
                    f"{seen[part['type']]} of the row: put the row's {part['type']}s in the order of their parts"
                )
            seen[part["type"]] += 1


def without_nulls(message: Mapping[str, Any]) -> Row:
    """Parquet gives every message and part every key of any other; a template must not see the nulls."""
    kept = {name: value for name, value in message.items() if value is not None}
    if isinstance(kept.get("content"), list):
        kept["content"] = [
            {name: value for name, value in part.items() if value is not None} if isinstance(part, dict) else part
            for part in kept["content"]
        ]
    return kept


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{where} is text that is no JSON: {error}") from None
