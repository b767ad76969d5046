"""A scorer for runs on random weights: 1, 3 or 5 by a hash of the text, and 5 for what is boxed, as a gold is."""

import xxhash

from pangu_rl.records import Completion, Outcome, Part, Prompt


def drawn(prompt: Prompt, completion: Completion) -> Part:
    value = 5 if "\\boxed" in completion.text else (1, 3, 5)[xxhash.xxh3_64_intdigest(completion.text.encode()) % 3]
    return Part(value=float(value), outcome=Outcome.CORRECT if value == 5 else Outcome.INCORRECT)
