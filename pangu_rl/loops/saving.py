"""A run's checkpoints, **written while it goes on**: ranks' copies -> files and hashes -> sealed by a thread.

At most one is under way, and the next waits for it. The clock decides when one is written, never what is trained.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pangu_rl.checkpoint.disk import told
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.store import CheckpointStore

log = logging.getLogger(__name__)


class Ranks(Protocol):
    """What is saved: `save` returns when training may go on, `written` when the files are on disk."""

    def save(self, checkpoint: Path) -> None: ...

    def written(self) -> dict[str, Entry]: ...


class Saving:
    """The checkpoint that is under way, if there is one."""

    def __init__(
        self,
        store: CheckpointStore,
        every: int | None = None,
        every_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """One is due every so many steps, at those that the store keeps, and by the first end of a step so many seconds
        after the last one began."""
        self._store, self._every, self._every_s, self._clock = store, every, every_s, clock
        self._begun_at = clock()
        self.step = 0
        """Step of the newest checkpoint that this process has read or begun."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._seconds: float | None = None

    def is_due(self, step: int) -> bool:
        """Whether the end of `step` is the time for one."""
        by_step = step in self._store.keep_steps or (self._every is not None and step % self._every == 0)
        return by_step or (self._every_s is not None and self._clock() - self._begun_at >= self._every_s)

    def resumed(self, step: int) -> None:
        """The run goes on from the checkpoint of `step`; 0 is none."""
        self.step, self._begun_at = step, self._clock()

    def begin(
        self, step: int, ranks: Ranks, state: dict[str, Any], write: Callable[[Path], None] = lambda folder: None
    ) -> None:
        """Save `ranks` and the loop's `state` (JSON values) as they are now, and what `write` puts into the folder,
        later and in another thread.

        Raises:
            CheckpointError, RunError: the one before could not be written, or this one not be begun.
        """
        self.wait()
        with self._whole(step):
            folder = self._store.begin(step)
            ranks.save(folder)
        self.resumed(step)
        self._pending = self._thread.submit(self._finish, step, ranks, copy.deepcopy(state), partial(write, folder))

    def wait(self) -> None:
        """Until nothing is under way; raises what went wrong, once."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def raise_if_failed(self) -> None:
        if self._pending is not None and self._pending.done():
            self.wait()

    def settle(self) -> None:
        """Wait before the ranks end, for whatever reason they do: a checkpoint that can be sealed is."""
        try:
            self.wait()
        except Exception as error:  # what ends the run is told already, and this would hide it
            log.warning("the last checkpoint was not written: %s", error)

    def take(self) -> dict[str, float]:
        """`time/checkpoint_write`: seconds that the last checkpoint took in the background, once."""
        seconds, self._seconds = self._seconds, None
        return {} if seconds is None else {"time/checkpoint_write": seconds}

    @contextmanager
    def _whole(self, step: int) -> Iterator[None]:
        """What fails in it leaves nothing that fills the disk, and speaks one line if it was the disk."""
        try:
            with told(self._store.directory):
                yield
        except BaseException:
            self._store.discard(step)
            raise

    def _finish(self, step: int, ranks: Ranks, state: dict[str, Any], write: Callable[[], None]) -> None:
        started = time.monotonic()
        with self._whole(step):
            write()
            self._store.commit(step, state, ranks.written())
        self._seconds = time.monotonic() - started
