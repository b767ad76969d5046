"""Counting: the boxed number of things."""

from __future__ import annotations

from dataclasses import replace

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.recipe.boxed import judge_box
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import Gold
from rewards.rules.integer import read_count, scalar_of
from rewards.rules.math import gold_value


def counting(prompt: Prompt, completion: Completion, *, partial: float = 0.0) -> Part:
    """1.0 for the right count, else 0.0; with `partial` a wrong count earns up to that much, less for a larger error.

    Example: under `partial=0.5` a count of 6 for a gold of 8 earns 0.5 x (1 - 2/8) = 0.375.
    """

    def judge(answer: str, gold: Gold) -> Part:
        part = grade_directly(answer, gold)
        if part.outcome is not Outcome.INCORRECT or partial == 0.0:
            return part
        wanted, found = scalar_of(gold_value(gold)), read_count(answer)
        if found is None:
            return part
        error = abs(found.value - wanted.value) / max(abs(wanted.value), 1)
        return replace(part, value=partial * float(max(0, 1 - error)))

    return judge_box(prompt, completion, "integer", judge)
