"""The soft overlong penalty of DAPO (arXiv 2503.14476, eq. 13): length -> **0 to -1**, before the limit cuts."""

from __future__ import annotations

from pangu_rl.records import Completion, Outcome, Part, Prompt


def soft_overlong(prompt: Prompt, completion: Completion, *, limit: int, buffer: int) -> Part:
    """0 up to `limit - buffer` tokens, then linearly down to -1 at `limit`, which is `rollout.max_new_tokens`.

    Raises:
        ValueError: the buffer is no part of the limit.
    """
    if not 0 < buffer <= limit:
        raise ValueError(f"soft_overlong: buffer {buffer} must be from 1 to limit {limit}")
    length = len(completion.token_ids)
    over = length - (limit - buffer)
    value = -min(max(over, 0) / buffer, 1.0)
    outcome = Outcome.CORRECT if over <= 0 else Outcome.INCORRECT
    return Part(value=value, outcome=outcome, detail="" if over <= 0 else f"{length} tokens, {limit - buffer} are free")
