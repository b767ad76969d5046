"""A reward plugin for runs on random weights: a number in [0, 1) from the sampled ids, so that groups have variance."""

import xxhash

from pangu_rl.records import Completion, Outcome, Part, Prompt


def drawn(prompt: Prompt, completion: Completion) -> Part:
    value = xxhash.xxh3_64_intdigest(repr(completion.token_ids).encode()) / 2**64
    return Part(value=value, outcome=Outcome.CORRECT if value > 0.5 else Outcome.INCORRECT)
