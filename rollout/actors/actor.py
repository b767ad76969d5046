"""The process around one engine. Pool -> **actor** -> engine; completions leave one by one while the rest is drawn.

The pool speaks to an actor in mid-stream by the number of the stream: a word may come before the stream begins, and
after it has ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray

from pangu_rl.accelerators import Accelerator
from pangu_rl.monitoring.watchdog import Process
from pangu_rl.records import RolloutRequest, Scorable, WeightManifest
from pangu_rl.records.prompts import Shown, with_patches
from rollout.engine import Drawn, Engine, EngineSpec, Link
from rollout.intake import Intake

CONCURRENCY = {"health": 1, "intake": 1}
"""Threads beside the one that calls the engine."""


class RolloutActor:
    """Engine calls run one after another; what is said meanwhile, and questions after its health, have threads of
    their own."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._engine: Engine | None = None
        self._intakes: dict[int, Intake] = {}

    def start(self) -> Process:
        """Build the engine. Not in the constructor, whose errors reach the caller as a dead actor without a cause."""
        see_own_devices(self._spec.accelerator)
        self._engine = (self._spec.factory or engine_factory(self._spec.rollout.engine))(self._spec)
        return Process.here()

    @ray.method(num_returns="streaming")
    def generate(self, number: int, requests: Sequence[RolloutRequest], live: bool = False) -> Iterator[Drawn]:
        """The stream `number`, of rising numbers; a live one goes on until it is interrupted."""
        for ended in [other for other in list(self._intakes) if other < number]:
            del self._intakes[ended]
        intake = self._intake(number)
        intake.live = live
        # Not `yield from`: Ray sends figures of its own into a stream, and an engine's iterator need not take them.
        for drawn in self._engine.generate(fetch_patches(requests), intake):  # noqa: UP028
            yield drawn

    @ray.method(concurrency_group="intake")
    def add(self, number: int, requests: Sequence[RolloutRequest]) -> None:
        self._intake(number).add(requests)

    @ray.method(concurrency_group="intake")
    def interrupt(self, number: int) -> None:
        self._intake(number).interrupt()

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

    def _intake(self, number: int) -> Intake:
        return self._intakes.setdefault(number, Intake(fetch_patches))


def see_own_devices(accelerator: Accelerator) -> None:
    """Hide the devices of others where Ray leaves all of them visible; before anything looks for a device."""
    if accelerator.ray_resource is not None:
        ids = ray.get_runtime_context().get_accelerator_ids()[accelerator.ray_resource]
        os.environ.update(accelerator.own_devices(ids, os.environ))


def fetch_patches(items: Sequence[Shown]) -> list[Shown]:
    return with_patches(items, ray.ObjectRef, ray.get)


QUIET = {
    # vLLM warns of what we chose, and at every sync of tied and derived tensors that have no bytes; its errors raise.
    "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
    # Where an engine that does not start looks for the cause, which a worker of several says in vLLM's log alone.
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


def engine_factory(name: str) -> type[Engine]:
    """Engine class of `rollout.engine`; vllm is imported in the actor alone."""
    if name == "fake":
        from rollout.fake_engine import FakeEngine

        return FakeEngine
    from rollout.vllm.engine import VllmEngine

    return VllmEngine


def create_actor(spec: EngineSpec, options: Mapping[str, Any] | None = None) -> ray.actor.ActorHandle:
    """A fresh actor; its engine is built by `start`. `options` are Ray's, with its place; without them Ray chooses."""
    accelerator = spec.accelerator
    placed = dict(options or accelerator.ray_options(spec.rollout.devices_per_actor))
    own = placed.pop("runtime_env", {}).get("env_vars", {})
    environment = QUIET | accelerator.rollout_env(spec.threads) | own
    remote = ray.remote(concurrency_groups=CONCURRENCY)(RolloutActor)
    return remote.options(**placed, runtime_env={"env_vars": environment}).remote(spec)


class RayActors:
    """How the pool reaches its actors, and its clock; a test in virtual time puts others in their place."""

    def create(self, spec: EngineSpec, options: Mapping[str, Any] | None) -> ray.actor.ActorHandle:
        return create_actor(spec, options)

    def kill(self, actor: ray.actor.ActorHandle) -> None:
        ray.kill(actor)

    def now(self) -> float:
        return time.monotonic()

    def wait(self, calls: Sequence[Any], timeout: float) -> Any | None:
        """The first of `calls` that has a result or, for a stream, its next item or its end; None after `timeout` s."""
        ready, _ = ray.wait(list(calls), timeout=timeout)
        return ready[0] if ready else None

    def result(self, call: ray.ObjectRef) -> Any:
        return ray.get(call)

    def item(self, stream: ray.ObjectRefGenerator) -> Drawn:
        """Raises `StopIteration` at the end of the stream."""
        return ray.get(next(stream))
