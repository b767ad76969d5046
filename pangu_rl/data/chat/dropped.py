"""Messages, and what the template wrote for them -> **what of their text it left out**."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pangu_rl.data.chat.turns import Message, text_of


class Render(Protocol):
    """The template: messages and tools -> text, which under `prompt` ends where the assistant is to go on."""

    def __call__(self, messages: Sequence[Message], tools: Sequence[Message], *, prompt: bool = False) -> str: ...


MARK = "MARKQ{}Q"
"""Stands for a text; no template looks for it."""


def squeezed(text: str) -> str:
    """Text without white space, which templates move and trim."""
    return "".join(text.split())


def left_out(text: str, written: str) -> bool:
    """Whether `written` lacks words of `text`; white space does not count."""
    return bool(text) and text not in written and squeezed(text) not in squeezed(written)


def missing_of_turn(message: Message, written: str, opened: str) -> str:
    """What of an assistant's turn is not in what the template wrote for it, named for an error; empty if nothing is.

    `opened`: the `<think>` that the turn begins with, where the prompt has written it; else empty.
    """
    content = text_of(message)
    if opened:
        content = content.strip().removeprefix(opened)
    if left_out(content, written):
        return f"text ({content.strip()[:40]!r})"
    reasoning = message.get("reasoning_content") or ""
    if left_out(reasoning, written):
        return f"reasoning_content ({reasoning.strip()[:40]!r})"
    names = [call["function"]["name"] for call in message.get("tool_calls") or ()]
    absent = next((name for name in names if name not in written), None)
    return f"call of {absent}" if absent is not None else ""


def dropped_turns(messages: Sequence[Message], tools: Sequence[Message], render: Render) -> tuple[str, ...]:
    """Names of the turns, and of `tools`, that the template does not write at all, whatever they say.

    Found by marks in the place of the texts: a short text is easily found elsewhere.
    """
    marked = [_marked(message, MARK.format(index)) for index, message in enumerate(messages)]
    # A template may read a tool's parameters, so only what it is called and does is marked.
    marked_tools = [_marked_tool(tool, MARK.format(f"t{index}")) for index, tool in enumerate(tools)]
    written = render(marked, marked_tools)
    turns = [
        f"the {message['role']} turn ({index + 1})"
        for index, message in enumerate(messages)
        if text_of(message).strip() and MARK.format(index) not in written
    ]
    unseen = any(MARK.format(f"t{index}") not in written for index in range(len(tools)))
    return (*turns, *(["tools"] if unseen else []))


def shape(messages: Sequence[Message], tools: Sequence[Message]) -> tuple:
    """What a template may decide by, besides the texts themselves: rows of one shape lose the same turns."""
    return (
        tuple(
            (message["role"], bool(text_of(message).strip()), tuple(sorted(message)), type(message["content"]).__name__)
            for message in messages
        ),
        len(tools),
    )


def trimmed(messages: Sequence[Message], written: str) -> bool:
    """Whether white space at an end of some turn's text is not written."""
    return any(text != text.strip() and text not in written for text in map(text_of, messages))


def _marked(message: Message, mark: str) -> Message:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": mark if content.strip() else content}
    parts = [{**part, "text": mark} if part.get("type") == "text" else part for part in content]
    return {**message, "content": parts}


def _marked_tool(tool: Mapping[str, Any], mark: str) -> Message:
    inner = tool.get("function")
    return {**tool, "function": {**inner, "name": mark}} if isinstance(inner, dict) else {**tool, "name": mark}
