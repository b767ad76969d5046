"""The one thread of a process in which scorers live: connections, limits and counts, shared by whatever loop asks."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pangu_rl.config.sections.scorers import ScorerConfig
from rewards.scorers.records import Backend

Made = TypeVar("Made")
Said = TypeVar("Said")

_made: dict[str, asyncio.Task[Any]] = {}
"""By configuration file; touched by the scorers' thread alone."""
_starting = threading.Lock()


async def in_scorers_thread(
    config: str, make: Callable[[str], Awaitable[Made]], ask: Callable[[Made], Awaitable[Said]]
) -> Said:
    """`ask` of what `make` makes of the file `config`, once per process."""
    asked = asyncio.run_coroutine_threadsafe(_ask(config, make, ask), _loop())
    return await asyncio.wrap_future(asked)


async def running_engines(scorers: tuple[ScorerConfig, ...]) -> dict[str, Backend]:
    """Backends by scorer name, of those that are engines of the run.

    Raises:
        ConfigError: this process is in no run, or the run started no such engine.
    """
    engines = [scorer for scorer in scorers if scorer.engine is not None]
    if not engines:
        return {}
    # Ray is there whenever there are engines; endpoints do without it.
    from rewards.scorers.actor import find_engine

    return {scorer.name: await find_engine(scorer) for scorer in engines}


async def _ask(config: str, make: Callable[[str], Awaitable[Any]], ask: Callable[[Any], Awaitable[Said]]) -> Said:
    if config not in _made:
        _made[config] = asyncio.ensure_future(make(config))
    # Whoever gives up waiting must not take it from the others.
    return await ask(await asyncio.shield(_made[config]))


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        return _started_loop()


@functools.cache
def _started_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="scorers").start()
    return loop


def _forget() -> None:
    """A forked process has none of the parent's threads: it makes its own."""
    global _made, _starting
    _left_behind.append(_made)
    _made, _starting = {}, threading.Lock()
    _started_loop.cache_clear()


_left_behind: list[object] = []
"""What the parent made: SQLite forbids that a forked process closes its connections."""
os.register_at_fork(after_in_child=_forget)
