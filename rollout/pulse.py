"""When an engine reports its progress. Tokens so far -> **pulse** -> a report now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

from pangu_rl.records import Progress

PULSE_S = 1.0
"""Least time between two reports."""


class Pulse:
    """Of one call of `Engine.generate`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock() + PULSE_S
        self._last: dict[str, int] = {}

    def progress(self, tokens: Callable[[], dict[str, int]]) -> Progress | None:
        """A report of `tokens` (uid -> so far) if one is due and there are new ones: an engine that steps without
        making any is as silent as one that hangs."""
        now = self._clock()
        if now < self._due:
            return None
        self._due = now + PULSE_S
        last, self._last = self._last, tokens()
        return Progress(tokens=self._last) if any(n > last.get(uid, 0) for uid, n in self._last.items()) else None
