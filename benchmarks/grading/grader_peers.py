"""math-verify as TRL and as verl call it. Top-level functions, since they run in processes of their own too.

TRL: its own `accuracy_reward`, row after row in the main thread. verl (`verl/utils/reward_score/math_verify.py`): a
spawned pool of four processes, the gold in a box, the whole response parsed.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.grading.grader_rows import Row

VERL_PROCESSES = 4
VERL_TIMEOUT_S = 30.0
Verdict = bool | None
"""None: no verdict."""


def trl_verdicts(rows: Sequence[Row]) -> list[Verdict]:
    from trl.rewards import accuracy_reward

    completions = [[{"content": row.prediction}] for row in rows]
    rewards = accuracy_reward(completions, [f"${row.gold}$" for row in rows])
    return [None if reward is None else bool(reward) for reward in rewards]


def verl_verdict(row: Row) -> bool:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    golds = parse(f"\\boxed{{{row.gold}}}", (LatexExtractionConfig(),))
    found = parse(row.prediction, (ExprExtractionConfig(), LatexExtractionConfig()))
    return any(verify(gold, answer) for answer in found for gold in golds)
