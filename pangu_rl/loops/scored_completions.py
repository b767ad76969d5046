"""Prompts -> requests with a seed each -> **completions, scored as they finish**, for every stage that samples."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import xxhash

from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.records import Completion, Prompt, RolloutRequest, SamplingParams, Score
from rewards.service import RewardPool
from rollout.pool import RolloutPool

LOOK_S = 0.25
"""Time between two looks at which scores have come: each asks after all that are missing."""


def sampling_seed(run_seed: int, step: int, uid: str) -> int:
    """A 31-bit seed that only this request of this step of this run has."""
    return xxhash.xxh3_64_intdigest(f"{run_seed}/{step}/{uid}".encode()) & 0x7FFFFFFF


def requests_of(
    prompt: Prompt, group: str, row: TrainingRow, sampling: SamplingParams, seeds: Sequence[int]
) -> list[RolloutRequest]:
    """One request per seed; together they are the group's completions of `prompt`, encoded as `row`."""
    return [
        RolloutRequest(
            uid=f"{group}/{index}",
            group=group,
            prompt_uid=prompt.uid,
            prompt_token_ids=tuple(row.token_ids),
            sampling=sampling,
            seed=seed,
            pictures=row.pictures,
        )
        for index, seed in enumerate(seeds)
    ]


def score_stream(
    requests: Sequence[RolloutRequest], prompts: Mapping[str, Prompt], pool: RolloutPool, rewards: RewardPool
) -> tuple[dict[str, Completion], dict[str, Score]]:
    """Draw all requests; each completion goes to the reward service the moment it is finished. Keyed by uid."""
    completions, scores = drawn_stream(requests, prompts, pool, rewards)
    return completions, rewards.collect(scores)


def drawn_stream(
    requests: Sequence[RolloutRequest], prompts: Mapping[str, Prompt], pool: RolloutPool, rewards: RewardPool
) -> tuple[dict[str, Completion], dict[str, Score]]:
    """The same, with those scores alone that have come when the last completion has."""
    completions: dict[str, Completion] = {}
    scores: dict[str, Score] = {}
    looked = time.monotonic()
    for completion in pool.generate(requests):
        completions[completion.uid] = completion
        rewards.submit(prompts[completion.group], completion)
        # What can be done while the engines draw is not left for when they wait.
        _ = completion.arrays
        if time.monotonic() - looked > LOOK_S:
            scores |= rewards.finished()
            looked = time.monotonic()
    return completions, scores
