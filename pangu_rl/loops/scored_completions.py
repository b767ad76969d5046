"""Prompts -> requests with a seed each -> **completions, scored as they finish**, for every stage that samples."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import xxhash

from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Completion, Group, Prompt, RolloutRequest, SamplingParams, Score
from rewards.service import RewardPool
from rollout.pool import RolloutPool

LOOK_S = 0.25
"""Time between two looks at which scores have come: each asks after all that are missing."""


def sampling_of(rollout: RolloutConfig) -> SamplingParams:
    """How the completions that are trained on are drawn."""
    return SamplingParams(
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
        max_new_tokens=rollout.max_new_tokens,
    )


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


def begin_groups(
    drawn: Sequence[tuple[int, Prompt]],
    loader: RowLoader,
    sampling: SamplingParams,
    seed: int,
    step: int,
    completions: int,
) -> tuple[list[Group], list[RolloutRequest]]:
    """Empty groups of (epoch, prompt), and the requests that fill them, group after group; seeded for `step`."""
    groups, requests = [], []
    rows = loader.prompts([prompt for _, prompt in drawn])
    for (epoch, prompt), row in zip(drawn, rows, strict=True):
        name = f"{epoch}:{prompt.uid}"
        groups.append(
            Group(
                prompt=prompt,
                group=name,
                prompt_token_ids=tuple(row.token_ids),
                completions=[],
                scores=[],
                pictures=row.pictures,
                prompt_positions=row.positions,
            )
        )
        seeds = [sampling_seed(seed, step, f"{name}/{index}") for index in range(completions)]
        requests += requests_of(prompt, name, row, sampling, seeds)
    return groups, requests


def fill(groups: Sequence[Group], requests: Sequence[RolloutRequest], pool: RolloutPool, rewards: RewardPool) -> None:
    """Draw and score the `requests` of `groups`, and put what came into them, in the order of the requests."""
    named = {group.group: group for group in groups}
    prompts = {name: group.prompt for name, group in named.items()}
    completions, scores = drawn_stream(requests, prompts, pool, rewards)
    scores = rewards.collect(scores)
    for request in requests:
        named[request.group].completions.append(completions[request.uid])
        named[request.group].scores.append(scores[request.uid])


def drawn_stream(
    requests: Sequence[RolloutRequest], prompts: Mapping[str, Prompt], pool: RolloutPool, rewards: RewardPool
) -> tuple[dict[str, Completion], dict[str, Score]]:
    """Draw all requests; each completion goes to the reward service the moment it is finished. Keyed by uid, with those
    scores alone that have come when the last completion has."""
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
