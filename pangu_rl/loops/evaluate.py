"""Greedy answers to the held-out prompts, graded by the first reward function -> an `Evaluation`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pangu_rl.loops.pictures import RowLoader
from pangu_rl.loops.scored_completions import requests_of, score_stream
from pangu_rl.records import Completion, Evaluation, Outcome, Part, Prompt, RolloutRequest, SamplingParams
from rewards.service import RewardPool
from rollout.pool import RolloutPool


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt, what the model said to it, and what the first reward function said of that."""

    prompt: Prompt
    completion: Completion
    part: Part

    def as_row(self, name: str) -> dict[str, Any]:
        """Of set `name`, for people who look at what a model says."""
        return {
            "set": name,
            "id": self.prompt.uid,
            "source": self.prompt.source,
            "answer": self.prompt.answer,
            "said": self.completion.text,
            "finish_reason": self.completion.finish_reason,
            "outcome": self.part.outcome,
            "detail": self.part.detail,
        }


def greedy(max_new_tokens: int, stop: tuple[str, ...] = ()) -> SamplingParams:
    """How all evaluations draw: at temperature 0."""
    return SamplingParams(temperature=0.0, max_new_tokens=max_new_tokens, stop=stop)


def answers(
    prompts: Sequence[Prompt],
    *,
    loader: RowLoader,
    pool: RolloutPool,
    rewards: RewardPool,
    sampling: SamplingParams | Callable[[Prompt], SamplingParams],
) -> list[Answered]:
    """One completion per prompt, drawn by `greedy` sampling (one for all, or of each), in the order of `prompts`."""
    of = sampling if callable(sampling) else lambda _: sampling
    requests: list[RolloutRequest] = []
    for prompt, row in zip(prompts, loader.prompts(prompts), strict=True):
        requests += requests_of(prompt, f"eval:{prompt.uid}", row, of(prompt), [0])
    by_group = {request.group: prompt for request, prompt in zip(requests, prompts, strict=True)}
    completions, scores = score_stream(requests, by_group, pool, rewards)
    return [
        Answered(prompt, completions[request.uid], next(iter(scores[request.uid].parts.values())))
        for request, prompt in zip(requests, prompts, strict=True)
    ]


def verdicts(name: str, step: int, answered: Sequence[Answered]) -> Evaluation:
    """A row without a verdict is left out of the figures, never wrong."""
    judged = [one for one in answered if one.part.outcome.is_verdict]
    return Evaluation(
        name=name,
        step=step,
        correct={one.prompt.uid: one.part.outcome is Outcome.CORRECT for one in judged},
        sources={one.prompt.uid: one.prompt.source for one in judged},
    )


def evaluate(
    name: str,
    step: int,
    prompts: Sequence[Prompt],
    *,
    loader: RowLoader,
    pool: RolloutPool,
    rewards: RewardPool,
    sampling: SamplingParams,
) -> Evaluation:
    """The verdicts on the greedy answers to `prompts`."""
    answered = answers(prompts, loader=loader, pool=pool, rewards=rewards, sampling=sampling)
    return verdicts(name, step, answered)
