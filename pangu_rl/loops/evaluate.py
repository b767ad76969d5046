"""Greedy answers to the held-out prompts, graded by the first reward function -> an `Evaluation`."""

from __future__ import annotations

from collections.abc import Sequence

from pangu_rl.loops.collect import requests_of, score_stream
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Evaluation, Outcome, Prompt, RolloutRequest, SamplingParams
from rewards.service import RewardPool
from rollout.pool import RolloutPool


def evaluate(
    name: str,
    step: int,
    prompts: Sequence[Prompt],
    *,
    loader: RowLoader,
    pool: RolloutPool,
    rewards: RewardPool,
    max_new_tokens: int,
) -> Evaluation:
    """Temperature 0, one completion per prompt. A row without a verdict is left out of the figures, never wrong."""
    sampling = SamplingParams(temperature=0.0, max_new_tokens=max_new_tokens)
    requests: list[RolloutRequest] = []
    for prompt, row in zip(prompts, loader.prompts(prompts), strict=True):
        requests += requests_of(prompt, f"eval:{prompt.uid}", row, sampling, [0])
    by_group = {request.group: prompt for request, prompt in zip(requests, prompts, strict=True)}
    _, scores = score_stream(requests, by_group, pool, rewards)
    correct = {
        request.prompt_uid: _first_outcome(scores[request.uid].parts) is Outcome.CORRECT
        for request in requests
        if _first_outcome(scores[request.uid].parts).is_verdict
    }
    return Evaluation(
        name=name, step=step, correct=correct, sources={p.uid: p.source for p in prompts if p.uid in correct}
    )


def _first_outcome(parts: dict) -> Outcome:
    return next(iter(parts.values())).outcome
