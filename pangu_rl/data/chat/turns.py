"""Messages of a row -> **messages as templates expect them**: text as text, arguments as objects, no keys of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pangu_rl.records import THINK_OPEN, THINKING

Message = dict[str, Any]
TRAIN = "train"
"""Key of an assistant turn: false of one that is read and not trained."""


def for_template(messages: Iterable[Message]) -> list[Message]:
    """Contents of text parts alone become text; a turn without content has an empty one; `train` is not shown."""
    return [_shown(message) for message in messages]


def with_spelled_arguments(messages: Iterable[Message]) -> list[Message]:
    """Arguments of tool calls as JSON text, for templates that write them as they are."""
    return [_with_calls(message, lambda arguments: json.dumps(arguments, ensure_ascii=False)) for message in messages]


def with_arguments(messages: Iterable[Message], arguments: Message) -> list[Message]:
    """Every tool call with the same arguments."""
    return [_with_calls(message, lambda _: arguments) for message in messages]


def with_text_parts(messages: Iterable[Message]) -> list[Message]:
    """Contents of text as one part, for templates that read nothing else."""
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message["content"], str)
        else message
        for message in messages
    ]


def is_trained(message: Message) -> bool:
    return message["role"] == "assistant" and message.get(TRAIN, True)


def text_of(message: Message) -> str:
    """The text of a message, its parts joined; pictures are not text."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def trained_last_alone(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Only the last assistant turn is trained; those before it are read, as they are when the model is asked."""
    last = max((index for index, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    return tuple(
        {**message, TRAIN: False} if message["role"] == "assistant" and index != last else message
        for index, message in enumerate(messages)
    )


def without_reasoning(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Assistant turns without `reasoning_content` and without what stands up to `</think>`."""
    return tuple(_stripped(message) if message["role"] == "assistant" else message for message in messages)


def answer_alone(text: str) -> str:
    """What follows the reasoning at the beginning of `text`; all of it where no block is closed."""
    # An answer may speak of tags: those that no prompt is known to open count where the text begins with them.
    opened = next((opening for opening in THINKING if text.lstrip().startswith(opening)), THINK_OPEN)
    head, closed, tail = text.rpartition(THINKING[opened])
    return tail.lstrip() if closed and head.count(opened) <= 1 else text


def _shown(message: Message) -> Message:
    shown = {key: value for key, value in message.items() if key != TRAIN}
    content = shown.get("content")
    if content is None:
        shown["content"] = ""
    elif isinstance(content, list) and all(part.get("type") == "text" for part in content):
        shown["content"] = text_of(message)
    return shown


def _with_calls(message: Message, changed: Callable[[Any], Any]) -> Message:
    if not message.get("tool_calls"):
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    written = [{**function, "arguments": changed(function["arguments"])} for function in functions]
    calls = [{**call, "function": function} for call, function in zip(message["tool_calls"], written, strict=True)]
    return {**message, "tool_calls": calls}


def _stripped(message: Message) -> Message:
    kept = {key: value for key, value in message.items() if key != "reasoning_content"}
    if isinstance(kept.get("content"), str):
        kept["content"] = answer_alone(kept["content"])
    return kept
