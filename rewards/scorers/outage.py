"""When a scorer is down: the waits between attempts, the circuit breaker, and the pace of requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from pangu_rl.config.sections.scorers import LimitsConfig, RetryConfig
from rewards.scorers.records import BackendError
from rewards.scorers.verdict import BadReply

T = TypeVar("T")


def attempts(config: RetryConfig) -> AsyncRetrying:
    """Attempts of one vote: again at once after a bad reply, after a random wait after an outage, never after a refusal
    that would only be repeated (a 4xx); the last error is raised as it is."""
    jitter = wait_random_exponential(multiplier=config.backoff_s, max=config.max_backoff_s)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception()
        if isinstance(error, BadReply):
            return 0.0
        return min(max(jitter(state), error.retry_after_s), config.max_backoff_s)

    return AsyncRetrying(
        stop=stop_after_attempt(config.attempts), wait=wait, retry=retry_if_exception(_worth_another), reraise=True
    )


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, BadReply) or (isinstance(error, BackendError) and error.transient)


class Breaker:
    """Leaves a scorer alone after so many votes lost to outages in a row; then one vote tries while the others wait."""

    def __init__(self, config: RetryConfig) -> None:
        self._limit = config.breaker_failures
        self._cooldown_s = config.breaker_cooldown_s
        self._failures = 0
        self._open_until = 0.0
        self._last = ""
        self._probing = asyncio.Lock()

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of `call`.

        Raises:
            BackendError: of the call, or at once while the scorer is left alone.
        """
        while True:
            self._refuse_while_open()
            if self._failures < self._limit:
                return await self._counted(call)
            async with self._probing:
                self._refuse_while_open()
                if self._failures >= self._limit:
                    return await self._counted(call)

    def _refuse_while_open(self) -> None:
        left = self._open_until - asyncio.get_running_loop().time()
        if self._failures >= self._limit and left > 0:
            raise BackendError(
                f"left alone for {left:.0f} s more after {self._failures} failures in a row, the last: {self._last}",
                transient=False,
            )

    async def _counted(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            result = await call()
        except BackendError as error:
            if not error.transient:  # it refused this one request, so it is up
                self._failures = 0
                raise
            self._failures += 1
            self._last = str(error)
            self._open_until = asyncio.get_running_loop().time() + self._cooldown_s
            raise
        except BadReply:
            self._failures = 0  # it babbles, so it is up
            raise
        self._failures = 0
        return result


class Pace:
    """At most so many requests at once, and evenly spaced ones per minute."""

    def __init__(self, config: LimitsConfig) -> None:
        self._slots = asyncio.Semaphore(config.concurrency)
        self._spacing_s = 60.0 / config.requests_per_minute if config.requests_per_minute else 0.0
        self._next = 0.0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        async with self._slots:
            now = asyncio.get_running_loop().time()
            start = max(now, self._next)
            self._next = start + self._spacing_s
            await asyncio.sleep(start - now)
            yield
