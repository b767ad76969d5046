"""A reward function in a killable child: for plugins that may hang, eat memory, or end their own process.

`isolated: true` in the configuration. The plugin is imported in the child alone, which has no API keys in its
environment and a memory limit; its result comes back as data. A child past the deadline is killed and replaced.
"""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Callable
from typing import Any

from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.errors import ConfigError
from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards import registry
from rewards.base import call
from rewards.children import ChildError, ChildKilled, ChildPool, ChildTimeout

MEMORY_MIB = 4096
"""What a plugin may allocate, its libraries included."""
IMPORT_S = 60.0
"""Deadline of the import at start."""

_loaded: dict[str, Callable[..., Any]] = {}
"""In a child: the plugins that it has imported."""


class IsolatedFunction:
    """Follows `RewardFunction`. A timeout and a death are "no verdict"; what the plugin raises is raised here."""

    keeps_own_deadline = True
    """For the rubric: the deadline leaves out the wait for a free child."""

    def __init__(self, config: RewardFunctionConfig, deadline_s: float) -> None:
        """Raises `ConfigError`: the plugin cannot be resolved, or does not survive its import."""
        self._config = config.model_copy(update={"isolated": False})
        self._deadline_s = deadline_s
        _check(self._config)

    async def __call__(self, prompt: Prompt, completion: Completion) -> Any:
        try:
            return await _pool().arun(call_plugin, self._config, prompt, completion, deadline_s=self._deadline_s)
        except ChildTimeout as error:
            return self._no_verdict(Outcome.TIMEOUT, completion, str(error))
        except ChildKilled as error:
            return self._no_verdict(Outcome.KILLED, completion, str(error))
        except ChildError as error:
            if error.kind == "TimeoutError":
                return self._no_verdict(Outcome.TIMEOUT, completion, error.text)
            raise

    def _no_verdict(self, outcome: Outcome, completion: Completion, reason: str) -> Part:
        detail = f"reward function {self._config.name}, completion {completion.uid}: {reason}"
        return Part.no_verdict(outcome, detail)


def call_plugin(config: RewardFunctionConfig, prompt: Prompt, completion: Completion) -> Any:
    """In a child: what the plugin says of one completion."""
    key = repr(config)
    if key not in _loaded:
        _loaded[key] = registry.resolve(config)
    return call(_loaded[key], prompt, completion)


def import_plugin(config: RewardFunctionConfig) -> None:
    """In a child: raises `ConfigError` if the plugin cannot be resolved."""
    registry.resolve(config)


def nothing() -> None:
    """Warm-up of a pool whose children import for themselves."""


def _check(config: RewardFunctionConfig) -> None:
    try:
        _pool().run(import_plugin, config, deadline_s=IMPORT_S)
    except (ChildTimeout, ChildKilled) as error:
        raise ConfigError(f"rewards: {config.name} does not survive its import: {error}") from None
    except ChildError as error:
        raise ConfigError(error.text if error.kind == "ConfigError" else f"rewards: {config.name}: {error}") from None


@functools.cache
def _pool() -> ChildPool:
    """One for all isolated functions of this process."""
    pool = ChildPool(memory_mib=MEMORY_MIB, warm_up=nothing)
    atexit.register(pool.close)
    return pool


os.register_at_fork(after_in_child=_pool.cache_clear)
"""A forked process has none of the parent's threads: it makes a pool of its own."""
