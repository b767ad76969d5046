"""Multiple choice: the letter of the right option, its text, or both if they agree."""

from __future__ import annotations

from pangu_rl.records import Completion, Part, Prompt
from rewards.recipe.boxed import judge_box
from rewards.rules.dispatch import grade_directly


def multiple_choice(prompt: Prompt, completion: Completion) -> Part:
    """1.0 for the right option of the prompt's column `choices`, else 0.0; every letter at once is wrong."""
    return judge_box(prompt, completion, "choice", grade_directly)
