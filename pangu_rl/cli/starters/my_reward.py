"""Rewards of your own: functions of a prompt and a completion. The configuration names them as FILE:FUNCTION.

pangu-rl check-plugin my_reward.py:right_number --prompts grpo_rows.jsonl
"""

import re

from pangu_rl.records import Completion, Prompt


def right_number(prompt: Prompt, completion: Completion) -> float:
    """1 if the last number of the answer is the row's `answer`, else 0. What is 1 or more counts as right."""
    numbers = re.findall(r"-?\d+", completion.text)
    return float(bool(numbers) and int(numbers[-1]) == int(prompt.answer))


def short(prompt: Prompt, completion: Completion, limit: int) -> float:
    """1 if the answer has at most `limit` tokens; `args` of the configuration sets the limit."""
    return float(len(completion.token_ids) <= limit)
