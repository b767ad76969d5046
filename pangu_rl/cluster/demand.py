"""Stage configuration -> **the actors that live at once, in blocks that must lie on one node**.

An engine is a block, since vLLM's engine runs in one process with its workers beside it; so is a sequence-parallel
group of learner ranks. With `rollout.placement: shared` a block holds ranks and the engines on their devices. Of a
learner rank the memory is what the caller estimates, else a lower bound: weights, gradients and optimizer states. Of an
engine it is a lower bound: weights and KV cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pangu_rl.config.load import load_config
from pangu_rl.config.names.scorer_files import scorer_files
from pangu_rl.config.pipelines.graph import read_graph
from pangu_rl.config.pipelines.node import WITHOUT_ACTORS
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.config.sampling import IterativeConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.config.sections.scorers import ScorerConfig
from pangu_rl.config.stages import SftConfig

GIB = 2**30
LearnerMemory = Callable[[Any], Mapping[str, int] | None]
"""A stage's configuration -> bytes of each part of what a learner rank holds, `host` what it holds in the host's memory
instead of its device's; None where nobody can tell."""
SCORER, ENGINE, LEARNER, REWARD = "scorer", "rollout actor", "learner rank", "reward worker"
ROLES = (SCORER, ENGINE, LEARNER, REWARD)
"""In the order in which a run makes them."""
PASSING = ("activations", "workspace")
"""Parts of a rank's memory that it holds within a step only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One process."""

    role: str
    name: str
    devices: int = 0
    shares: bool = False
    """Its devices are held by the other actors of its bundle; it works while they sleep."""
    smaller: str = ""
    """What to change where it does not fit into the memory of its devices."""
    gib_per_device: float | None = None
    host_gib: float = 0.0
    """Of the host's memory; of a rank that gives its device to an engine, also what it moves there."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """GiB of each part of an estimate; empty of a lower bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What must lie on one node: bundles of devices, each held by one actor or shared by several."""

    name: str
    option: str
    """The setting that says how many devices it has."""
    bundles: tuple[tuple[Actor, ...], ...]

    @property
    def devices(self) -> int:
        return sum(map(devices_of, self.bundles))

    @property
    def actors(self) -> list[Actor]:
        return [actor for bundle in self.bundles for actor in bundle]


def devices_of(bundle: Sequence[Actor]) -> int:
    return sum(actor.devices for actor in bundle if not actor.shares)


def phases_of(
    stage: str, config: Any, weight_gib: float | None = None, learner_memory: LearnerMemory | None = None
) -> list[tuple[str, list[Block]]]:
    """(name, blocks that live at once) in the order of the stage; of a pipeline those of all its stages."""
    if isinstance(config, PipelineConfig):
        return [
            (node.name if phase == node.stage else f"{node.name}: {phase}", blocks)
            for node in read_graph(config)
            if node.stage not in WITHOUT_ACTORS
            for phase, blocks in phases_of(node.stage, node.draft(), weight_gib, learner_memory)
        ]
    own = blocks_of(config, weight_gib, learner_memory)
    if isinstance(config, IterativeConfig):
        return [("sampling", own), ("fine-tuning", _learners(config, weight_gib, learner_memory))]
    start = getattr(config, "start", None)
    before = []
    if start is not None:
        before = [("SFT start", blocks_of(load_config(SftConfig, start.sft_config), weight_gib, learner_memory))]
    return [*before, (stage, own)]


def blocks_of(config: Any, weight_gib: float | None = None, learner_memory: LearnerMemory | None = None) -> list[Block]:
    """Of one run with this configuration; the runs before it (an SFT start) and in it (fine-tuning) have their own."""
    engines = _engines(config, weight_gib)
    learners = [] if isinstance(config, IterativeConfig) else _learners(config, weight_gib, learner_memory)
    if engines and config.rollout.placement == "shared":
        return [*_scorers(config), *_shared(config, engines, learners), *_rewards(config)]
    return [*_scorers(config), *engines, *learners, *_rewards(config)]


def scorer_configs(config: Any) -> list[ScorerConfig]:
    rewards = getattr(config, "rewards", None)
    files = scorer_files(rewards.functions) if rewards is not None else []
    return [scorer for file in files for scorer in file.scorers]


def learner_gib(weight_gib: float, ranks: int, zero_stage: int) -> float:
    """Per device: 2 bytes a weight, 4 of its float32 gradient, 12 of the float32 weight and Adam's moments.

    ZeRO 1 divides the 12 over the ranks, ZeRO 2 the gradients as well, ZeRO 3 everything.
    """
    weights, gradients, states = weight_gib, 2 * weight_gib, 6 * weight_gib
    shared = (states if zero_stage >= 1 else 0) + (gradients if zero_stage >= 2 else 0)
    shared += weights if zero_stage >= 3 else 0
    return weights + gradients + states - shared + shared / ranks


def _learners(config: Any, weight_gib: float | None, learner_memory: LearnerMemory | None) -> list[Block]:
    """A block for each sequence-parallel group, a bundle for each rank."""
    learner = getattr(config, "learner", None)
    if learner is None:
        return []
    degree = getattr(learner, "sequence_parallel", 1)
    parts = {name: size / GIB for name, size in ((learner_memory and learner_memory(config)) or {}).items()}
    first = _rank(learner, weight_gib, parts)
    ranks = [replace(first, name=f"{LEARNER} {rank}") for rank in range(learner.ranks)]
    option = "learner.ranks" if degree == 1 else "learner.sequence_parallel"
    groups = [ranks[start : start + degree] for start in range(0, len(ranks), degree)]
    return [Block(name=span(group), option=option, bundles=tuple((rank,) for rank in group)) for group in groups]


def _rank(learner: LearnerConfig, weight_gib: float | None, parts: Mapping[str, float]) -> Actor:
    memory = None if weight_gib is None else learner_gib(weight_gib, learner.ranks, getattr(learner, "zero_stage", 0))
    if parts:
        memory = sum(parts.values()) - parts["host"]
    return Actor(
        role=LEARNER,
        name=LEARNER,
        devices=1,
        smaller=_smaller(parts),
        gib_per_device=memory,
        host_gib=parts.get("host", 0.0),
        parts=parts,
    )


def _smaller(parts: Mapping[str, float]) -> str:
    """What to change about the larger half of a rank's memory."""
    if sum(parts.get(name, 0.0) for name in PASSING) > sum(parts.values()) / 2:
        return "learner.gradient_checkpointing, a higher learner.sequence_parallel, or shorter packs"
    return "a higher learner.zero_stage or more learner.ranks"


def _engines(config: Any, weight_gib: float | None) -> list[Block]:
    rollout: RolloutConfig | None = getattr(config, "rollout", None)
    if rollout is None:
        return []
    weights = (weight_gib or 0.0) / rollout.devices_per_actor
    actors = [
        Actor(
            role=ENGINE,
            name=f"{ENGINE} {index}",
            devices=rollout.devices_per_actor,
            smaller="a higher rollout.devices_per_actor or a lower rollout.kv_cache_gib",
            gib_per_device=None if weight_gib is None else weights + (rollout.kv_cache_gib or 0.0),
        )
        for index in range(rollout.actors)
    ]
    return [Block(name=one.name, option="rollout.devices_per_actor", bundles=((one,),)) for one in actors]


def _scorers(config: Any) -> list[Block]:
    """Engines of scorers that are alike in all their settings are one."""
    blocks = {}
    for scorer in scorer_configs(config):
        if scorer.engine is not None:
            actor = Actor(role=SCORER, name=f"{SCORER} {scorer.name}", devices=scorer.engine.devices)
            blocks[scorer.model_dump_json()] = Block(
                name=actor.name, option="engine.devices of the scorers file", bundles=((actor,),)
            )
    return list(blocks.values())


def _rewards(config: Any) -> list[Block]:
    workers = config.rewards.workers if getattr(config, "rewards", None) is not None else 0
    actors = [Actor(role=REWARD, name=f"{REWARD} {index}") for index in range(workers)]
    return [Block(name=actor.name, option="rewards.workers", bundles=((actor,),)) for actor in actors]


def _shared(config: Any, engines: Sequence[Block], learners: Sequence[Block]) -> list[Block]:
    """Engine i on the ranks from i * width on, in one bundle. A block has whole engines and whole sequence groups."""
    width, degree = config.rollout.devices_per_actor, config.learner.sequence_parallel
    size = math.lcm(width, degree)
    ranks = [_moving(actor) for block in learners for actor in block.actors]
    guests = {index * width: replace(engine.actors[0], shares=True) for index, engine in enumerate(engines)}
    blocks = []
    for start in range(0, len(ranks), size):
        bundles, at, end = [], start, min(start + size, len(ranks))
        while at < end:
            guest = guests.get(at)
            held = width if guest else 1
            bundles.append((*ranks[at : at + held], *([guest] if guest else [])))
            at += held
        options = "learner.sequence_parallel and rollout.devices_per_actor" if degree > 1 else engines[0].option
        blocks.append(Block(name=span(ranks[start:end]), option=options, bundles=tuple(bundles)))
    return blocks


def _moving(rank: Actor) -> Actor:
    """A rank that keeps nothing on its device while the engine draws: what lasts goes to the host."""
    lasting = (rank.gib_per_device or 0.0) - sum(rank.parts.get(name, 0.0) for name in PASSING)
    return replace(rank, host_gib=rank.host_gib + lasting)


def span(actors: Sequence[Actor]) -> str:
    """The name of one, or of neighbours of one role."""
    first, last = actors[0], actors[-1]
    return first.name if first is last else f"{first.role}s {first.name.split()[-1]} to {last.name.split()[-1]}"
