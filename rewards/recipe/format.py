"""The format reward: exactly one answer, in a box, after the thinking."""

from __future__ import annotations

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.base import whole_answer
from rewards.rules.boxed_answer import answer_part, boxes


def boxed_format(prompt: Prompt, completion: Completion) -> Part:
    """1.0 if the answer part holds exactly one box, complete and not empty, else 0.0.

    Stricter than the accuracy's reading of the last box, so that a box for every candidate earns less.
    """
    answer = answer_part(whole_answer(prompt, completion))
    found = boxes(answer) if answer is not None else []
    if not found:
        return Part(value=0.0, outcome=Outcome.NO_BOX, detail="no \\boxed{} after the thinking block")
    good = len(found) == 1 and bool((found[0] or "").strip())
    detail = "" if good else f"{len(found)} boxes, the last {_state(found[-1])}"
    return Part(value=float(good), outcome=Outcome.CORRECT if good else Outcome.INCORRECT, detail=detail)


def _state(box: str | None) -> str:
    if box is None:
        return "unterminated"
    return "complete" if box.strip() else "empty"
