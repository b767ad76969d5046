"""What reaches an engine while it draws: further requests, and the word to stop. Actor's calls -> **intake** -> engine.

The engine draws on one thread and is spoken to on another, so this is the only thing that both touch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from pangu_rl.records import RolloutRequest


class Intake:
    """Of one call of `Engine.generate`."""

    def __init__(self, unpack: Callable[[Sequence[RolloutRequest]], list[RolloutRequest]] = list) -> None:
        """`unpack` is done to what is taken, by the engine's thread: what it raises ends the call and is seen."""
        self._unpack = unpack
        self.live = False
        """Whether the engine waits for further requests when it has drawn all; `interrupt` ends such a call."""
        self._news = threading.Condition()
        self._requests: list[RolloutRequest] = []
        self._interrupted = False

    @property
    def interrupted(self) -> bool:
        return self._interrupted

    def add(self, requests: Iterable[RolloutRequest]) -> None:
        with self._news:
            self._requests += requests
            self._news.notify()

    def interrupt(self) -> None:
        with self._news:
            self._interrupted = True
            self._news.notify()

    def take(self) -> list[RolloutRequest]:
        """What was added since the last time."""
        with self._news:
            taken, self._requests = self._requests, []
        return self._unpack(taken) if taken else taken

    def wait(self) -> None:
        """Until there is something to take, or the interruption."""
        with self._news:
            self._news.wait_for(lambda: self._requests or self._interrupted)
