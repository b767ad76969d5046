"""What draws and what scores: requests -> **rollout pool -> reward service**, started and ended together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pangu_rl.accelerators.threads import threads_each
from pangu_rl.cluster.placement import Placement
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.lora import LoraConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rewards import RewardsConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.loops.actors.scorer_engine import scorer_engines
from pangu_rl.loops.session import Run
from pretrain.processing.resize import PixelLimits
from rewards.service import RewardPool
from rollout.engine import EngineSpec
from rollout.pool import RolloutPool


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginesConfig:
    """The sections of a stage's configuration that its engines are made from."""

    model: ModelConfig
    rollout: RolloutConfig
    rewards: RewardsConfig
    seed: int
    end_tokens: tuple[int, ...] = ()
    """What the chat template closes the assistant's turn with."""
    lora: LoraConfig | None = None
    """See `EngineSpec.lora`."""
    limits: PixelLimits | None = None
    """Of the pictures that requests bring; None are those of the model folder's processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    pool: RolloutPool
    rewards: RewardPool
    placement: Placement

    def waiting(self) -> list[str]:
        """Actors with the completions waited for from them and how far those are, then those without a score."""
        scoring = self.rewards.waiting_for()
        return self.pool.waiting() + ([f"reward service: {', '.join(scoring[:4])}"] if scoring else [])

    def pids(self) -> dict[str, int]:
        """Processes whose stacks a stalled step needs."""
        return {f"rollout actor {index}": pid for index, pid in enumerate(self.pool.pids())}


@contextmanager
def open_engines(config: EnginesConfig, run: Run, placement: Placement) -> Iterator[Engines]:
    """Scorers' engines, reward workers, and a pool that is yet to be started; they end with the context. Whatever waits
    for them asks `run.stop` every second, which may raise.

    Raises:
        UserError: a reward function or a scorer that cannot be used.
    """
    with ExitStack() as stack:
        stack.enter_context(scorer_engines(config.rewards, run.accelerator, placement.scorer_options))
        rewards = RewardPool(config.rewards, placement.reward_options, stop=run.stop)
        stack.callback(rewards.close)
        spec = EngineSpec(
            model=config.model,
            rollout=config.rollout,
            accelerator=run.accelerator,
            model_path=resolve_path(config.model.path),
            seed=config.seed,
            limits=config.limits,
            threads=threads_each(config.rollout.actors),
            end_tokens=config.end_tokens,
            lora=config.lora,
        )
        pool = RolloutPool(spec, placement.engine_options, stop=run.stop, place_lost=placement.engine_lost)
        stack.callback(pool.close)
        yield Engines(pool=pool, rewards=rewards, placement=placement)
