"""prompt stream -> requests -> **completions, scored as they finish** -> groups with advantages.

The rollout phase of a step. In synchronous mode a step's requests enter the engines in a fixed order with a seed each,
so what is sampled is a function of the run's seed and the weights, never of timing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pangu_rl.algorithms.grpo import group_advantages
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.packs.batching import valid_rows
from pangu_rl.data.stream import PromptStream
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.loops.scored_completions import begin_groups, fill, sampling_of
from pangu_rl.records import Group, Outcome, Prompt, RolloutRequest
from rewards.service import RewardPool
from rollout.pool import RolloutPool


@dataclass(slots=True)
class Batch:
    """What one rollout phase brought: every group drawn, those to train and those set aside."""

    step: int
    groups: list[Group]
    rounds: int
    stream_state: dict[str, Any]
    """State of the prompt stream after this batch: what a checkpoint of this step saves."""

    @property
    def trained(self) -> list[Group]:
        return [group for group in self.groups if group.trained]


class Collector:
    """Draws a step's groups. Those with nothing to compare are set aside and, up to a bound, others drawn."""

    def __init__(
        self, config: GrpoConfig, stream: PromptStream, loader: RowLoader, pool: RolloutPool, rewards: RewardPool
    ) -> None:
        self.config = config
        self.stream = stream
        self.loader = loader
        self.pool = pool
        self.rewards = rewards
        self.sampling = sampling_of(config.rollout)

    def collect(self, step: int) -> Batch:
        """Draw until the step has its prompts' worth of groups to train, or the rounds are used up."""
        wanted = self.config.trainer.prompts_per_step
        dynamic = self.config.algorithm.dynamic_sampling
        groups: list[Group] = []
        missing, rounds = wanted, 0
        while missing and rounds <= (dynamic.max_rounds if dynamic.enabled else 0):
            drawn = self._draw(step, missing)
            groups += drawn
            missing -= sum(group.trained for group in drawn)
            rounds += 1
        return Batch(step=step, groups=groups, rounds=rounds, stream_state=self.stream.state_dict())

    def begin(self, drawn: Sequence[tuple[int, Prompt]], step: int) -> tuple[list[Group], list[RolloutRequest]]:
        """As `begin_groups`."""
        config = self.config
        return begin_groups(drawn, self.loader, self.sampling, config.trainer.seed, step, config.rollout.completions)

    def _draw(self, step: int, count: int) -> list[Group]:
        groups, requests = self.begin(self.stream.next(count), step)
        fill(groups, requests, self.pool, self.rewards)
        self.judge(groups)
        return groups

    def judge(self, groups: list[Group]) -> None:
        """Advantages of scored groups, and which of them train."""
        algorithm = self.config.algorithm
        advantages = group_advantages(
            [score.reward for group in groups for score in group.scores],
            [group.group for group in groups for _ in group.scores],
            [valid for group in groups for valid in valid_rows(group, algorithm.overlong)],
            scale=algorithm.advantage_scale,
            eps=algorithm.advantage_eps,
        ).tolist()
        left = iter(advantages)
        for group in groups:
            group.advantages = list(islice(left, len(group.completions)))
            group.trained = not algorithm.dynamic_sampling.enabled or self._is_mixed(group)

    def _is_mixed(self, group: Group) -> bool:
        """Whether the group has something to compare."""
        algorithm = self.config.algorithm
        if algorithm.dynamic_sampling.judge == "accuracy":
            rows = zip(group.scores, valid_rows(group, algorithm.overlong), strict=True)
            if len({score.outcome is Outcome.CORRECT for score, valid in rows if valid}) < 2:
                return False
        return any(group.advantages)
