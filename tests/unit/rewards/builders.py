"""Prompts and completions of one line each."""

from __future__ import annotations

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
        weight_version=0,
    )
