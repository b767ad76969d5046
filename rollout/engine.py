"""What every rollout engine does, and the records that describe one. Requests -> **engine** -> completions.

The vLLM engine and the fake one of the unit tests follow `Engine`; an actor owns one engine, the pool owns the actors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import xxhash

from pangu_rl.accelerators import Accelerator
from pangu_rl.config.sections.lora import LoraConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.records import Begun, Completion, Progress, RolloutRequest, Scorable, WeightManifest
from pretrain.processing.resize import PixelLimits
from rollout.intake import Intake

SHARED_KV_GIB = 1.0
"""KV cache of an engine without a device of its own, unless the configuration says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """All that an engine is made from; travels to the actor that makes it."""

    model: ModelConfig
    rollout: RolloutConfig
    accelerator: Accelerator
    model_path: Path
    """The model's folder on disk: `model.path` resolved, or the SFT start that replaces it."""
    seed: int = 0
    """Seed of the engine itself; what is sampled depends on each request's own seed."""
    limits: PixelLimits | None = None
    """Of the pictures that requests bring, for an engine that sizes its buffers by the largest; None are those of the
    model folder's processor."""
    threads: int = 1
    """Threads of one engine on cpu."""
    end_tokens: tuple[int, ...] = ()
    """Tokens that end an answer beside those that the model folder names: what the chat template closes a turn with."""
    lora: LoraConfig | None = None
    """Of an engine whose weights stay those of `model_path`: what adapters the syncs bring, to be added to them."""
    factory: Callable[[EngineSpec], Engine] | None = None
    """Makes the engine instead of the one that `rollout.engine` names."""

    @property
    def eager(self) -> bool:
        """`rollout.eager`, or what suits the device."""
        eager = self.rollout.eager
        return self.accelerator.ray_resource is None if eager is None else eager

    @property
    def kv_cache_gib(self) -> float | None:
        """`rollout.kv_cache_gib`, or what suits the device; None is a share of its memory."""
        if self.rollout.kv_cache_gib is None and self.accelerator.ray_resource is None:
            return SHARED_KV_GIB
        return self.rollout.kv_cache_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where an engine's workers stand in the group that a broadcast of weights goes through; the learner is rank 0."""

    first_rank: int
    """Rank of the engine's first worker; the others follow."""
    world_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """A request that comes back unfinished."""

    uid: str
    begun: Begun | None
    """What it has so far, what it came with included; None before its first token."""


Drawn = Completion | Progress | Interrupted
"""What an engine yields while it draws."""


def before_stop(text: str, stop: Sequence[str]) -> str:
    """`text` up to the first of the strings that end an answer."""
    return text[: min((place for one in stop if (place := text.find(one)) >= 0), default=len(text))]


class Engine(Protocol):
    """Draws completions under one set of weights at a time."""

    @property
    def weight_version(self) -> int:
        """Version of the weights in place; `UNKNOWN_VERSION` after a sync that failed half-way."""

    def generate(self, requests: Sequence[RolloutRequest], intake: Intake | None = None) -> Iterator[Drawn]:
        """Admit all requests in the given order and yield each completion as it finishes, and signs of life meanwhile.

        A request with `begun` is gone on from there, by a generator of `(its seed, the number of tokens begun)`.
        `intake` brings further requests; once it is interrupted, all that are unfinished come back.

        Raises:
            RunError: the engine's prompt is not the request's, its pictures' placeholders expanded.
        """

    def load_weights(self, manifest: WeightManifest, link: Link | None = None) -> dict[str, str]:
        """Take the published weights in place, drop every cache of the old ones; digest per tensor as consumed.

        Raises:
            WeightSyncError: a name or a digest differs from the manifest.
        """

    def sleep(self, level: int) -> None:
        """Give up the device's memory until `wake`: of the KV cache, and of the weights, which at level 2 are lost."""

    def wake(self) -> None:
        """Have the weights' memory again, and the weights where the level kept them; after level 2 the version is
        `UNKNOWN_VERSION` until `load_weights`. The KV cache comes back with the next call that draws or scores."""

    def score(self, sequences: Sequence[Scorable]) -> list[list[float]]:
        """Log-probs at temperature 1 of each sequence's tokens but the first: [T] ids -> [T - 1] floats."""


def seed_of(request: RolloutRequest) -> int:
    """Seed of what is left to draw: the request's own at its beginning, and another one at each place to go on from."""
    begun = len(request.begun.token_ids) if request.begun else 0
    return xxhash.xxh3_64_intdigest(f"{request.seed}/{begun}".encode()) & 0x7FFFFFFF if begun else request.seed


UNKNOWN_VERSION = -1
"""No manifest has this version, so nothing drawn by such an engine is ever accepted."""
