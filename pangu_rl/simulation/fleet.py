"""Several engines in one virtual time: **the next answer of any** -> loops."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from pangu_rl.simulation.engine import Engine, Request


class Fleet:
    """Engines by the time of their next answer. An engine's entry is renewed whenever it is touched; older ones, known
    by their number, are dropped when they come up."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = list(engines)
        self._entries: list[tuple[float, int, int]] = []
        self._numbers = [0] * len(self.engines)
        self._loads = [engine.load for engine in self.engines]

    def submit(self, index: int, requests: Sequence[Request], at: float) -> None:
        self.engines[index].submit(requests, at)
        self._renew(index)

    def next_time(self) -> float:
        while self._entries and self._numbers[self._entries[0][2]] != self._entries[0][1]:
            heapq.heappop(self._entries)
        return self._entries[0][0] if self._entries else math.inf

    def finish(self) -> list[Request]:
        """The answers that are whole at `next_time`, of the engine that has them."""
        self.next_time()
        index = self._entries[0][2]
        done = self.engines[index].finish()
        self._renew(index)
        return done

    def pause(self, at: float, seconds: float) -> None:
        """All engines take new weights, see `Engine.pause`."""
        for index, engine in enumerate(self.engines):
            engine.pause(at, seconds)
            self._renew(index)

    def with_room(self) -> int | None:
        """The engine with the least to do, if it would start one more request at once."""
        index = self._loads.index(min(self._loads))
        return index if self.engines[index].has_room else None

    def _renew(self, index: int) -> None:
        self._numbers[index] += 1
        self._loads[index] = self.engines[index].load
        time = self.engines[index].next_time()
        if time < math.inf:
            heapq.heappush(self._entries, (time, self._numbers[index], index))
