"""A reward plugin whose verdict is known beforehand: right for an even reference, and for the reference itself."""

from pangu_rl.records import Completion, Outcome, Part, Prompt


def even(prompt: Prompt, completion: Completion) -> Part:
    right = int(prompt.answer) % 2 == 0 or prompt.answer in completion.text
    return Part(value=float(right), outcome=Outcome.CORRECT if right else Outcome.INCORRECT)
