"""Greedy answers to the held-out prompts, graded by the first reward function -> an `Evaluation`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.loops.scored_completions import drawn_stream, requests_of
from pangu_rl.records import Completion, Evaluation, Outcome, Part, Prompt, RolloutRequest, SamplingParams, Score
from rewards.service import RewardPool
from rollout.pool import RolloutPool

HELD_PATCHES = 2**18
"""Of the pictures that are held at once: 1.2 GB in patches of 14 x 14 pixels, two frames of three colours each."""


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
    """One completion per prompt, drawn by `greedy` sampling (one for all, or of each), in the order of `prompts`.

    Pictures of a portion of them are held at once, see `RowLoader.portions`, however large the set is.
    """
    of = sampling if callable(sampling) else lambda _: sampling
    by_group = {f"eval:{prompt.uid}": prompt for prompt in prompts}
    completions: dict[str, Completion] = {}
    scores: dict[str, Score] = {}
    for portion in loader.portions(prompts, HELD_PATCHES):
        drawn, found = drawn_stream(_requests(portion, loader, of), by_group, pool, rewards)
        completions |= drawn
        scores |= found
    scores = rewards.collect(scores)
    uids = [f"{group}/0" for group in by_group]
    return [
        Answered(prompt, completions[uid], next(iter(scores[uid].parts.values())))
        for uid, prompt in zip(uids, prompts, strict=True)
    ]


def _requests(
    prompts: Sequence[Prompt], loader: RowLoader, sampling: Callable[[Prompt], SamplingParams]
) -> list[RolloutRequest]:
    """One of each; the pictures of all are held as long as these are."""
    rows = zip(prompts, loader.prompts(prompts), strict=True)
    return [
        one for prompt, row in rows for one in requests_of(prompt, f"eval:{prompt.uid}", row, sampling(prompt), [0])
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


def write_evaluations(run_dir: Path, evaluations: Sequence[Evaluation]) -> None:
    """`evaluations.json`: every item's verdict."""
    write_whole(run_dir / "evaluations.json", json.dumps([asdict(evaluation) for evaluation in evaluations]))
