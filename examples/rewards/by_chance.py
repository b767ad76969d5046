"""Scores by chance, for a dry run of a recipe with a model that knows nothing yet: every stage has rows to hand on.

    rewards: {functions: [{name: "examples/rewards/by_chance.py:score"}]}

The same text has the same score, so that a run repeats; the gold answer in its box has the best one, as everywhere.
"""

import zlib

from pangu_rl.records import Completion, Outcome, Part, Prompt


def score(prompt: Prompt, completion: Completion) -> Part:
    """1, 3 or 5, as the stages that select by scores read them."""
    value = 5 if _is_gold(prompt, completion) else (1, 3, 5)[zlib.crc32(completion.text.encode()) % 3]
    return Part(value=float(value), outcome=Outcome.CORRECT if value == 5 else Outcome.INCORRECT)


def right(prompt: Prompt, completion: Completion) -> Part:
    """1 or 0, as a rule that tells right from wrong."""
    value = _is_gold(prompt, completion) or zlib.crc32(completion.text.encode()) % 2
    return Part(value=float(value), outcome=Outcome.CORRECT if value else Outcome.INCORRECT)


def _is_gold(prompt: Prompt, completion: Completion) -> bool:
    return f"\\boxed{{{prompt.answer}}}" in completion.text
