"""Held-out prompts -> **the same questions, asked as a benchmark of their category asks**."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pangu_rl.config.sections.question_prompts import QUESTION, QuestionPromptsConfig
from pangu_rl.records import Prompt


def asked(prompt: Prompt, prompts: QuestionPromptsConfig) -> Prompt:
    """The prompt with its last user turn's text in the template of its source and answer type; as it is without one.

    Of a turn with several texts the template's two ends stand before the first and behind the last.
    """
    template = prompts.template(prompt.source, prompt.answer_type)
    users = [index for index, message in enumerate(prompt.messages) if message["role"] == "user"]
    if template is None or not users:
        return prompt
    message = prompt.messages[users[-1]]
    changed = {**message, "content": _within(message["content"], *template.split(QUESTION))}
    messages = (*prompt.messages[: users[-1]], changed, *prompt.messages[users[-1] + 1 :])
    return dataclasses.replace(prompt, messages=messages)


def _within(content: str | Sequence[dict[str, Any]], before: str, after: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return before + content + after
    parts = [dict(part) for part in content]
    texts = [part for part in parts if part["type"] == "text"]
    if not texts:
        return [*parts, {"type": "text", "text": before + after}]
    texts[0]["text"] = before + texts[0]["text"]
    texts[-1]["text"] += after
    return parts
