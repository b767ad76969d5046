"""Prompts and completions of one line each, and patience."""

from __future__ import annotations

import time
from collections.abc import Callable

from pangu_rl.records import Completion, FinishReason, Prompt


def prompt(answer: str = "42", answer_type: str = "auto", uid: str = "p") -> Prompt:
    return Prompt(uid=uid, messages=({"role": "user", "content": "?"},), answer=answer, answer_type=answer_type)


def completion(text: str, uid: str = "0:p/0") -> Completion:
    return Completion(
        uid=uid,
        group="0:p",
        prompt_uid="p",
        token_ids=(),
        logprobs=(),
        text=text,
        finish_reason=FinishReason.STOP,
        weight_versions=(),
    )


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether `condition` came true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
