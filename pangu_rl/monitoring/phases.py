"""Where a step's time goes, and what it waits for now: loop -> **phases** -> metrics, live view, watchdog."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

Waiting = Callable[[], Sequence[str]]
"""One line per thing waited for, with its actor and samples, e.g. `rollout actor 0 (pid 4711): 0:p3/1, 0:p3/2`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase that runs."""

    name: str
    started: float
    """Monotonic seconds."""
    waiting: Waiting
    whole: bool
    """It is not left in its midst, whoever asks for the run's end."""


class PhaseTimer:
    """Seconds per phase, by the monotonic clock, so that a clock that is set does not invent a stall."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.current: Phase | None = None
        self._seconds: Counter[str] = Counter()

    @contextmanager
    def phase(self, name: str, waiting: Waiting = tuple, whole: bool = False) -> Iterator[None]:
        """Time a block; inside another phase it is timed on its own and counts for the outer one too."""
        outer = self.current
        self.current = phase = Phase(name=name, started=self.clock(), waiting=waiting, whole=whole)
        try:
            yield
        finally:
            self._seconds[name] += self.clock() - phase.started
            self.current = outer

    def take(self) -> dict[str, float]:
        """`time/<phase>` in seconds since the last call."""
        seconds, self._seconds = self._seconds, Counter()
        return {f"time/{name}": value for name, value in seconds.items()}
