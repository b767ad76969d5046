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
    outstanding: Callable[[], int] = lambda: 0
    """How many answers are waited for; callable from another thread."""


class Progress:
    """How much of what a phase waits for is done: of the most that was ever outstanding in it, what no longer is."""

    def __init__(self) -> None:
        self._phase: Phase | None = None
        self._most = 0

    def of(self, phase: Phase) -> str:
        """`24 of 96` of a phase that draws answers, else nothing."""
        if phase is not self._phase:
            self._phase, self._most = phase, 0
        left = phase.outstanding()
        self._most = max(self._most, left)
        return f"{self._most - left} of {self._most}" if self._most else ""


class PhaseTimer:
    """Seconds per phase, by the monotonic clock, so that a clock that is set does not invent a stall."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.current: Phase | None = None
        self._seconds: Counter[str] = Counter()

    @contextmanager
    def phase(
        self, name: str, waiting: Waiting = tuple, whole: bool = False, outstanding: Callable[[], int] = lambda: 0
    ) -> Iterator[None]:
        """Time a block; inside another phase it is timed on its own and counts for the outer one too."""
        outer = self.current
        self.current = phase = Phase(
            name=name, started=self.clock(), waiting=waiting, whole=whole, outstanding=outstanding
        )
        try:
            yield
        finally:
            self._seconds[name] += self.clock() - phase.started
            self.current = outer

    def take(self) -> dict[str, float]:
        """`time/<phase>` in seconds since the last call."""
        seconds, self._seconds = self._seconds, Counter()
        return {f"time/{name}": value for name, value in seconds.items()}
