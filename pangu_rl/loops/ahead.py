"""The data of the next step, made while this one trains: state, maker -> **a step ahead** -> loop.

What is made ahead is not consumed: a checkpoint holds the state before it, so it is made again after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """Calls `make` in one thread of its own, never twice at a time; for one thread that takes."""

    def __init__(self, make: Callable[[], Made], state: Callable[[], dict[str, Any]]) -> None:
        """`state` is that of what `make` draws from, and is read while it does not run."""
        self._make, self._state = make, state
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="data")
        self._coming: Future[Made] | None = None
        self._before: dict[str, Any] = {}

    def start(self) -> None:
        """Begin to make what is taken next, unless that is under way."""
        if self._coming is None:
            self._before = self._state()
            self._coming = self._thread.submit(self._make)

    def take(self) -> Made:
        """What was made, once it is; raises what `make` raised."""
        self.start()
        coming, self._coming = self._coming, None
        return coming.result()

    def state_dict(self) -> dict[str, Any]:
        """Of what has been taken, whatever is made ahead."""
        return self._state() if self._coming is None else self._before

    def close(self) -> None:
        """Wait for what is under way, and make nothing more."""
        self._thread.shutdown(cancel_futures=True)
