"""Configuration, cluster and constants -> **each placement's set-up, memory and steps** -> recommendation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.devices import DeviceFacts
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.measure.memory_estimate import Memory
from pangu_rl.learner.measure.stage_memory import longest_sequence, stage_memory
from pangu_rl.simulation.learner import LearnerCost
from pangu_rl.simulation.lengths import Prompts
from pangu_rl.simulation.loop import Setup, Steps, synchronous
from pangu_rl.simulation.rates import GIGA, Constants, ModelSize, communication, engine_cost
from pangu_rl.simulation.stale import stale

GIB = 2**30
STEPS = 4
"""Steps that are simulated and averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which devices do what; `shared` lets ranks and engines have the same ones in turn."""

    engines: int
    ranks: int
    shared: bool = False
    staleness: int = 0

    @property
    def name(self) -> str:
        kind = "shared" if self.shared else "split"
        return f"{kind}, {f'stale {self.staleness}' if self.staleness else 'in turn'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a prediction depends on beside the split."""

    config: GrpoConfig
    profile: ClusterProfile
    facts: DeviceFacts
    model: ModelSize
    prompts: Prompts
    constants: Constants

    @property
    def devices(self) -> list[int]:
        """Of each node; 0 everywhere on machines without."""
        return [group.devices for group in self.profile.nodes for _ in range(group.count)]

    @property
    def device_gib(self) -> float | None:
        """Memory of the smallest device; None without devices, or where the profile does not say."""
        known = [group.device_memory_gib for group in self.profile.nodes if group.devices]
        return None if None in known else min((gib for gib in known if gib is not None), default=None)

    def with_split(self, split: Split) -> GrpoConfig:
        learner = self.config.learner.model_copy(update={"ranks": split.ranks})
        rollout = self.config.rollout.model_copy(update={"actors": split.engines})
        return self.config.model_copy(update={"learner": learner, "rollout": rollout})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    split: Split
    steps: Steps
    engine_gib: float
    """On each device of an engine: weights and cache."""
    learner_gib: float | None
    """On a rank's device, at the worst; None for a model that cannot be estimated."""
    host_gib: float
    """In the host's memory, for each rank: what offload or a shared device puts there."""
    problems: tuple[str, ...] = ()


def predict(case: Case, split: Split) -> Prediction:
    """
    Raises:
        ConfigError: the longest answer does not fit into an engine's cache.
    """
    memory = stage_memory(case.model.shape, any(case.devices), case.with_split(split))
    setup = set_up(case, split, memory)
    run = stale(setup, case.prompts, split.staleness, STEPS) if split.staleness else None
    engine_gib = case.model.weight_bytes / case.config.rollout.devices_per_actor / GIB + cache_gib(case)
    asleep = _states(memory) if split.shared else 0
    return Prediction(
        split=split,
        steps=run or synchronous(setup, case.prompts, STEPS),
        engine_gib=engine_gib,
        learner_gib=memory.total / GIB if memory else None,
        host_gib=((memory.host if memory else 0) + asleep) / GIB,
        problems=tuple(_problems(case, engine_gib, memory)),
    )


def set_up(case: Case, split: Split, memory: Memory | None) -> Setup:
    rollout, algorithm = case.config.rollout, case.config.algorithm
    cached_gib = case.model.shape.cached_bytes(rollout.devices_per_actor, case.model.size) / GIB
    tokens = int(cache_gib(case) / cached_gib)
    longest = longest_sequence(case.config)
    if tokens < longest:
        needed = longest * cached_gib
        raise ConfigError(
            f"rollout.kv_cache_gib holds {tokens} tokens of this model, and a prompt with its answer has up to "
            f"{longest}: set it to {needed:.2g} or more, or null to take what rollout.memory_share leaves"
        )
    size = case.model.weight_bytes
    return Setup(
        engines=split.engines,
        engine=engine_cost(
            case.model, case.facts, _each(case, split.engines, rollout.devices_per_actor), case.constants
        ),
        slots=rollout.max_concurrent,
        cache_tokens=tokens,
        prompts_per_step=case.config.trainer.prompts_per_step,
        train=learner_cost(case, split, memory).training,
        sync_s=case.constants.sync_s + size / (case.constants.sync_gb_s * GIGA),
        # States out and back in, and the engines' weights back in; what an engine drops on falling asleep is free.
        shared=split.shared,
        switch_s=(2 * _states(memory) + size / rollout.devices_per_actor) / (case.facts.host_gb_s * GIGA)
        if split.shared
        else 0.0,
        reward_s=case.prompts.lengths.reward_s,
        prefix_caching=rollout.prefix_caching,
        max_rounds=algorithm.dynamic_sampling.max_rounds if algorithm.dynamic_sampling.enabled else 0,
    )


def learner_cost(case: Case, split: Split, memory: Memory | None) -> LearnerCost:
    learner = case.config.learner
    shape, constants = case.model.shape, case.constants
    trained = sum(n for part, n in shape.parts.items() if shape.tower is None or part in learner.trainable)
    moving = communication(case.model, trained, split.ranks, learner.zero_stage, _link_gb_s(case, split))
    offloaded = (memory.host if memory else 0) / (case.facts.host_gb_s * GIGA)
    each = _each(case, split.ranks, 1) * learner.sequence_parallel
    return LearnerCost(
        flops=case.model.flops,
        group_flops=each * case.facts.tflops * 1e12 * constants.learner_share,
        groups=split.ranks // learner.sequence_parallel,
        pack_tokens=learner.pack_tokens,
        micro_batch_tokens=learner.micro_batch_tokens,
        in_rows=learner.ranks_meet_at_micro_batches,
        overlapped=learner.overlap_comm if learner.overlap_comm is not None else learner.zero_stage == 3,
        recomputed=learner.gradient_checkpointing,
        mini_batches=case.config.algorithm.mini_batches,
        micro_batch_s=moving.micro_batch_s,
        update_s=constants.update_s + moving.update_s + offloaded,
    )


def cache_gib(case: Case) -> float:
    """On each device of an engine.

    Raises:
        ConfigError: the cache takes what is left of a device whose memory the profile does not say.
    """
    rollout = case.config.rollout
    if rollout.kv_cache_gib is not None:
        return rollout.kv_cache_gib
    if case.device_gib is None:
        raise ConfigError(
            "rollout.kv_cache_gib is null and the profile has no device_memory_gib: set one of the two, since the "
            "cache takes what the weights leave"
        )
    weights_gib = case.model.weight_bytes / rollout.devices_per_actor / GIB
    return max(0.0, case.device_gib * rollout.memory_share - weights_gib)


def _each(case: Case, workers: int, devices: int) -> float:
    """Devices of one worker; on machines without, the cores that it has while its like work."""
    cores = sum(group.cpus * group.count for group in case.profile.nodes)
    return devices if any(case.devices) else max(1.0, cores / workers)


def _link_gb_s(case: Case, split: Split) -> float:
    """Between ranks: of one node its links, of several at most what all its adapters carry together."""
    most = max(case.devices)
    used = split.ranks if split.shared else split.ranks + split.engines * case.config.rollout.devices_per_actor
    if used <= most or len(case.devices) == 1:
        return case.facts.link_gb_s
    return min(case.facts.link_gb_s, case.facts.network_gb_s * max(1, most))


def _states(memory: Memory | None) -> int:
    """What a rank must not lose while an engine has its device."""
    return memory.weights + memory.optimizer if memory else 0


def _problems(case: Case, engine_gib: float, memory: Memory | None) -> Iterator[str]:
    limit = case.device_gib
    if limit is None:
        return
    if engine_gib > limit:
        yield f"an engine holds {engine_gib:.0f} GiB on each device, which has {limit:g}"
    if memory and memory.total / GIB > limit:
        yield f"a learner rank holds {memory.total / GIB:.0f} GiB on its device, which has {limit:g}"
