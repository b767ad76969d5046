"""Messages -> **the text that a template writes**, each content and each call's arguments spelled as it reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pangu_rl.data.chat.bounded import BoundedTemplate
from pangu_rl.data.chat.dropped import MARK
from pangu_rl.data.chat.turns import Message, with_arguments, with_spelled_arguments, with_text_parts
from pangu_rl.errors import ConfigError, DataError

KEY = MARK.format("k")
ARGUMENTS = {KEY: True}
"""Stand for those of a call: JSON and Python write them differently."""


class Rendering:
    """The templates of one tokenizer (it may have one of its own for tools), or the one that stands in for them."""

    def __init__(self, name: str, tokenizer: Any, template: str | None) -> None:
        """`name` is that of the template in errors.

        Raises:
            ConfigError: several templates, none of them the default.
        """
        self._name = name
        self._tokenizer = tokenizer
        self._template = template
        self._bounded: dict[str, BoundedTemplate] = {}
        self._parts: dict[str, bool] = {}
        self._spelled: dict[str, bool] = {}
        try:
            self._source(())
        except ValueError:
            names = ", ".join(sorted(tokenizer.chat_template))
            raise ConfigError(
                f"{name} is one of {names}, none of them named default: set model.chat_template to a Jinja file"
            ) from None

    def __call__(self, messages: Sequence[Message], tools: Sequence[Message], *, prompt: bool = False) -> str:
        """What the template writes, which under `prompt` ends where the assistant is to go on.

        Raises:
            DataError: the template refuses the messages.
        """
        try:
            source = self._source(tools)
            read = with_text_parts(messages) if self._reads_parts(source) else messages
            if self._reads_spelled_arguments(source, read, tools):
                read = with_spelled_arguments(read)
            return self._applied(source, read, tools, prompt)
        except Exception as error:  # a template raises jinja2's errors, or any error of the Python it calls
            raise DataError(f"{self._name} refuses the messages: {error}") from error

    def _source(self, tools: Sequence[Message]) -> str:
        return self._tokenizer.get_chat_template(self._template, list(tools) or None)

    def _reads_parts(self, source: str) -> bool:
        """Whether it writes contents that are parts and none that are text."""
        if source not in self._parts:
            texts = [MARK.format(role) for role in ("user", "assistant")]
            turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=True)]
            as_text, as_parts = (self._attempt(source, each, ()) for each in (turns, with_text_parts(turns)))
            self._parts[source] = not all(text in as_text for text in texts) and all(text in as_parts for text in texts)
        return self._parts[source]

    def _reads_spelled_arguments(self, source: str, messages: Sequence[Message], tools: Sequence[Message]) -> bool:
        """Whether arguments that are objects fail, or come out as Python writes them: then it reads JSON text."""
        if not any(message.get("tool_calls") for message in messages):
            return False
        if source not in self._spelled:
            marked = with_arguments(messages, ARGUMENTS)
            written = self._attempt(source, marked, tools)
            if not (KEY in written or KEY in self._attempt(source, with_spelled_arguments(marked), tools)):
                return False  # it refuses these messages, or does not write these calls
            self._spelled[source] = KEY not in written or str(ARGUMENTS) in written
        return self._spelled[source]

    def _attempt(self, source: str, messages: Sequence[Message], tools: Sequence[Message]) -> str:
        """Empty where the template raises."""
        try:
            return self._applied(source, messages, tools, False)
        except Exception:  # as in `__call__`, where it is told
            return ""

    def _applied(self, source: str, messages: Sequence[Message], tools: Sequence[Message], prompt: bool) -> str:
        """As `tokenizer.apply_chat_template`, bounded."""
        if source not in self._bounded:
            self._bounded[source] = BoundedTemplate(source)
        return self._bounded[source].render(
            **self._tokenizer.special_tokens_map,
            messages=list(messages),
            tools=list(tools) or None,
            documents=None,
            add_generation_prompt=prompt,
        )
