"""A plugin in one file: a penalty that grows over the last tokens before the limit (DAPO, arXiv 2503.14476, eq. 13).

rewards:
  functions:
    - name: boxed_accuracy
    - {name: "examples/rewards/soft_length.py:soft_length", args: {limit: 1024, buffer: 256}}
"""

from __future__ import annotations

from pangu_rl.records import Completion, Prompt


def soft_length(prompt: Prompt, completion: Completion, *, limit: int, buffer: int) -> float:
    """0 up to `limit - buffer` tokens, then falling linearly to -1 at `limit`."""
    over = len(completion.token_ids) - (limit - buffer)
    return -min(max(over, 0) / buffer, 1.0)
