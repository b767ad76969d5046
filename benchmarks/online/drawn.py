"""The reward of the benchmark: a number in [0, 1) from the uid and the sampled ids: no two of a group are alike."""

import xxhash

from pangu_rl.records import Completion, Outcome, Part, Prompt


def drawn(prompt: Prompt, completion: Completion) -> Part:
    value = xxhash.xxh3_64_intdigest(repr((completion.uid, completion.token_ids)).encode()) / 2**64
    return Part(value=value, outcome=Outcome.CORRECT if value > 0.5 else Outcome.INCORRECT)
