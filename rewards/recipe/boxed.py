"""What the rewards of the recipe share: the completion's last box beside the prompt's gold, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.base import whole_answer
from rewards.recipe.accuracy import gold_of
from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.gold import BadGold, Gold
from rewards.rules.verdict import no_box


def judge_box(prompt: Prompt, completion: Completion, answer_type: str, judge: Callable[[str, Gold], Part]) -> Part:
    """`judge` of the boxed answer and the prompt's gold as `answer_type`; a gold that is none of it is no verdict."""
    try:
        gold = replace(gold_of(prompt), answer_type=answer_type)
        answer = extract_boxed(whole_answer(prompt, completion))
        if answer is None:
            return no_box()
        return judge(answer, gold)
    except BadGold as error:
        return Part.no_verdict(Outcome.ERROR, str(error))
