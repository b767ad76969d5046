"""Engines of the LLM scorers: one Ray actor for each scorer with an `engine`, under a name that reward workers know."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import ray
import xxhash
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from pangu_rl.accelerators import Accelerator
from pangu_rl.checkpoint.run_model import named_model
from pangu_rl.config.names.scorer_files import scorer_files
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rewards import RewardsConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.config.sections.scorers import ScorerConfig
from pangu_rl.errors import ConfigError
from rewards.scorers.actor import engine_name
from rollout.actors.actor import QUIET, see_own_devices
from rollout.actors.slots import START_LIMIT_S
from rollout.engine import EngineSpec

RESTARTS = 3
MAX_CALLS = 1000
"""Replies waited for at once; the engine takes what has come in meanwhile as its next batch."""


class ScorerEngine:
    """The actor: an async queue before one engine in one thread."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._engine: Any = None
        self._waiting: list[tuple[Mapping[str, Any], asyncio.Future[dict[str, Any]]]] = []
        self._at_work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Build the engine. Not in the constructor, whose errors reach the caller as a dead actor without a cause."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._build)

    async def identity(self) -> str:
        """Which weights these are: the folder, and what its files look like."""
        files = sorted(self._spec.model_path.glob("*.safetensors"))
        looks = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        stamp = xxhash.xxh3_128_hexdigest(repr(looks).encode())
        return f"engine {self._spec.model_path} {self._spec.model.dtype} {stamp}"

    async def pid(self) -> int:
        """This actor's process, for whoever looks into a stall."""
        return os.getpid()

    async def complete(self, chat: Mapping[str, Any]) -> dict[str, Any]:
        """See `rollout.vllm.scorer` for what goes in and out."""
        reply = asyncio.get_running_loop().create_future()
        self._waiting.append((chat, reply))
        if self._at_work is None or self._at_work.done():
            self._at_work = asyncio.create_task(self._work())
        return await reply

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                run = asyncio.get_running_loop().run_in_executor(self._thread, self._chat, [chat for chat, _ in batch])
                replies = await run
            except Exception as error:  # whatever the engine raises, each caller must hear of it
                for _, reply in batch:
                    if not reply.done():
                        reply.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
                continue
            for (_, reply), found in zip(batch, replies, strict=True):
                if not reply.done():  # a caller may have given up
                    reply.set_result(found)

    def _chat(self, chats: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        self._build()  # an actor that Ray restarted has had no `start`
        return self._engine.chat(chats)

    def _build(self) -> None:
        if self._engine is None:
            see_own_devices(self._spec.accelerator)
            from rollout.vllm.scorer import VllmScorer

            self._engine = VllmScorer(self._spec)


@contextmanager
def scorer_engines(
    rewards: RewardsConfig, accelerator: Accelerator, options: Callable[[int], Mapping[str, Any]] | None = None
) -> Iterator[list[Any]]:
    """Start the engines that the configured reward functions ask, before the reward workers; end them after.
    `options` are Ray's for each of them, in their order; without them Ray chooses where they go.

    Raises:
        ConfigError: a scorers file that cannot be used, or an engine that does not start.
    """
    files = scorer_files(rewards.functions)
    scorers = [scorer for file in files for scorer in file.scorers if scorer.engine]
    actors: dict[str, Any] = {}
    try:
        for scorer in scorers:
            name = engine_name(scorer)
            if name not in actors:
                placed = options(len(actors)) if options else accelerator.ray_options(scorer.engine.devices)
                actors[name] = _create(scorer, name, accelerator, placed)
                _wait_for_start(scorer, actors[name])
        yield list(actors.values())
    finally:
        for actor in actors.values():
            ray.kill(actor)


def _wait_for_start(scorer: ScorerConfig, actor: Any) -> None:
    try:
        ray.get(actor.start.remote(), timeout=START_LIMIT_S)
    except GetTimeoutError:
        raise ConfigError(
            f"scorer {scorer.name}: its engine was not up within {START_LIMIT_S:g} s on {scorer.model}: set its "
            "engine.eager, or serve the model elsewhere and name its base_url"
        ) from None
    except (RayTaskError, RayActorError) as error:
        cause = " ".join(str(getattr(error, "cause", error)).split())
        raise ConfigError(f"scorer {scorer.name}: its engine did not start on {scorer.model}: {cause[:300]}") from None


def _create(scorer: ScorerConfig, name: str, accelerator: Accelerator, placed: Mapping[str, Any]) -> Any:
    engine = scorer.engine
    environment = QUIET | accelerator.rollout_env(engine.threads)
    return (
        ray.remote(ScorerEngine)
        .options(
            name=name,
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,  # a call that meets a dead engine waits for the next one
            max_concurrency=MAX_CALLS,
            **placed,
            runtime_env={"env_vars": environment},
        )
        .remote(_spec(scorer, accelerator))
    )


def _spec(scorer: ScorerConfig, accelerator: Accelerator) -> EngineSpec:
    engine = scorer.engine
    return EngineSpec(
        model=ModelConfig(path=scorer.model, dtype=engine.dtype),
        rollout=RolloutConfig(
            devices_per_actor=engine.devices,
            max_model_tokens=engine.max_model_tokens,
            max_concurrent=engine.max_concurrent,
            kv_cache_gib=engine.kv_cache_gib,
            memory_share=engine.memory_share,
            eager=engine.eager,
        ),
        accelerator=accelerator,
        model_path=named_model(scorer.model, f"scorer {scorer.name}: model"),
        threads=engine.threads,
    )
