"""The process around one engine. Pool -> **actor** -> engine; completions leave one by one while the rest is drawn."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import ray

from pangu_rl.records import Completion, RolloutRequest, Scorable, WeightManifest
from rollout.engine import Engine, EngineSpec, Link

Seen = TypeVar("Seen", RolloutRequest, Scorable)
"""What may hold pictures."""


class RolloutActor:
    """Engine calls run one after another; the health calls have a thread of their own and answer meanwhile."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._engine: Engine | None = None

    def start(self) -> None:
        """Build the engine. Not in the constructor, whose errors reach the caller as a dead actor without a cause."""
        self._engine = (self._spec.factory or engine_factory(self._spec.rollout.engine))(self._spec)

    @ray.method(num_returns="streaming")
    def generate(self, requests: Sequence[RolloutRequest]) -> Iterator[Completion]:
        yield from self._engine.generate(fetch_patches(requests))

    def load_weights(self, manifest: WeightManifest, link: Link | None) -> dict[str, str]:
        return self._engine.load_weights(manifest, link)

    def sleep(self, level: int) -> None:
        self._engine.sleep(level)

    def wake(self) -> None:
        self._engine.wake()

    def score(self, sequences: Sequence[Scorable]) -> list[list[float]]:
        return self._engine.score(fetch_patches(sequences))

    @ray.method(concurrency_group="health")
    def ping(self) -> bool:
        return True

    @ray.method(concurrency_group="health")
    def pid(self) -> int:
        return os.getpid()


def fetch_patches(items: Sequence[Seen]) -> list[Seen]:
    """The same items with arrays for handles in their pictures; each handle is fetched once, however many hold it."""
    found = {picture.patches for item in items for picture in item.pictures if _is_handle(picture.patches)}
    handles = list(found)
    arrays = dict(zip(handles, ray.get(handles)))

    def fetched(item: Seen) -> Seen:
        if not item.pictures:
            return item
        pictures = (replace(p, patches=arrays[p.patches]) if _is_handle(p.patches) else p for p in item.pictures)
        return replace(item, pictures=tuple(pictures))

    return [fetched(item) for item in items]


def _is_handle(patches: object) -> bool:
    return isinstance(patches, ray.ObjectRef)


QUIET = {
    # vLLM warns of what we chose, and at every sync of tied and derived tensors that have no bytes; its errors raise.
    "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


def engine_factory(name: str) -> type[Engine]:
    """Engine class of `rollout.engine`; vllm is imported in the actor alone."""
    if name == "fake":
        from rollout.fake_engine import FakeEngine

        return FakeEngine
    from rollout.vllm_engine import VllmEngine

    return VllmEngine


def create_actor(spec: EngineSpec, options: Mapping[str, Any] | None = None) -> ray.actor.ActorHandle:
    """A fresh actor; its engine is built by `start`. `options` are Ray's, with its place; without them Ray chooses."""
    accelerator = spec.accelerator
    placed = dict(options or accelerator.ray_options(spec.rollout.devices_per_actor))
    own = placed.pop("runtime_env", {}).get("env_vars", {})
    environment = QUIET | accelerator.rollout_env(spec.threads) | own
    remote = ray.remote(concurrency_groups={"health": 1})(RolloutActor)
    return remote.options(**placed, runtime_env={"env_vars": environment}).remote(spec)
