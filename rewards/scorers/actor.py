"""An engine of ours as a backend: a Ray actor that the run has started, found by its name. Plain data crosses."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from pangu_rl.config.sections.scorers import ScorerConfig
from pangu_rl.errors import ConfigError
from rewards.scorers.records import BackendError, Reply, Request
from rewards.scorers.untrusted import one_line


def engine_name(scorer: ScorerConfig) -> str:
    """The actor's name: one per run and scorer, since runs may share a cluster and its namespace."""
    settings = hashlib.sha256(scorer.model_dump_json().encode()).hexdigest()[:16]
    return f"scorer:{ray.get_runtime_context().get_job_id()}:{scorer.name}:{settings}"


async def find_engine(scorer: ScorerConfig) -> EngineBackend:
    """The running engine of `scorer`.

    Raises:
        ConfigError: this process is in no run, or the run started no such engine.
    """
    try:
        handle = ray.get_actor(engine_name(scorer))
        return EngineBackend(handle, await handle.identity.remote(), scorer.limits.timeout_s)
    except (ValueError, RayError) as error:
        raise ConfigError(
            f"scorer {scorer.name}: its engine is not running ({_cause(error)}); only a run starts engines, so name a "
            "base_url to score outside of one"
        ) from None


class EngineBackend:
    """Follows `Backend`."""

    def __init__(self, handle: Any, identity: str, timeout_s: float) -> None:
        self.identity = identity
        self._handle = handle
        self._timeout_s = timeout_s

    async def complete(self, request: Request) -> Reply:
        try:
            # A restarting actor keeps its callers waiting for as long as it takes.
            async with asyncio.timeout(self._timeout_s):
                found = await self._handle.complete.remote(asdict(request))
        except TimeoutError:
            raise BackendError(f"no answer within {self._timeout_s:g} s", transient=True) from None
        except RayActorError as error:
            raise BackendError(f"the engine's actor died: {_cause(error)}", transient=True) from None
        except RayError as error:
            raise BackendError(f"the engine failed: {_cause(error)}", transient=True) from None
        if "error" in found:
            raise BackendError(one_line(found["error"], 150), transient=False)
        return Reply(text=found["text"], tokens=found["tokens"], problem=found["problem"])


def _cause(error: Exception) -> str:
    return one_line(str(getattr(error, "cause", None) or error), 150)
