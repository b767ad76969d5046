"""Killable checking: a pool of warm child processes with a deadline that the pool owns and a memory limit.

A thread cannot be killed, SIGALRM belongs to the caller's main thread, and a `ProcessPoolExecutor` neither kills a
worker that hangs nor survives one that dies. Here a child past its deadline is killed from outside, whatever it does,
and another is forked in milliseconds (`child_main`). Works from any thread, from asyncio and inside a Ray actor.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from rewards.child_handles import ORPHANED, OVER_MEMORY, Child, Nursery, OverMemory, Starved
from rewards.child_wire import BadReply, ChildError, decode_reply
from rewards.warm_up import warm_algebra

IDLE_S = 0.2
"""How often a keeper looks whether its idle child still lives."""
MAX_DEFAULT_SIZE = 4
MAX_HAND_OVERS = 4

__all__ = ["ChildError", "ChildKilled", "ChildPool", "ChildTimeout", "Task"]


class ChildTimeout(Exception):
    """The task was not done by its deadline; its child was killed."""


class ChildKilled(Exception):
    """The child died during the task, and so did the second one that tried it."""


@dataclass(slots=True, eq=False)
class Task:
    """One call in a child, from `submit` to its result."""

    payload: bytes
    deadline_s: float
    future: Future[Any] = field(default_factory=Future)
    handed_at: float = 0.0
    """When a child got it, on the monotonic clock; of the second child, if the first died."""
    finished_at: float = 0.0
    ends: list[str] = field(default_factory=list)
    """How the children ended that it cost."""

    @property
    def may_try_again(self) -> bool:
        """One child may die by no fault of the task; the process that forks never dies by one, and takes all along."""
        return len(self.ends) - self.ends.count(ORPHANED) < 2 and len(self.ends) < MAX_HAND_OVERS

    @property
    def seconds(self) -> float:
        """From hand-over to result; 0 if it never reached a child."""
        return self.finished_at - self.handed_at


class ChildPool:
    """`size` processes that run functions by name; they start with the first task, or with `start`."""

    def __init__(
        self,
        size: int | None = None,
        deadline_s: float = 2.0,
        memory_mib: int = 1024,
        *,
        warm_up: Callable[[], object] = warm_algebra,
    ) -> None:
        """`size` None takes a child per core, at most four. `memory_mib` is what a task may allocate beyond what
        `warm_up` left; `warm_up` runs once, before any child is forked, and no deadline counts it."""
        self.size = size or min(MAX_DEFAULT_SIZE, os.cpu_count() or 1)
        self.deadline_s = deadline_s
        self.replaced = 0
        """Children that died or were killed so far."""
        self._memory_mib = memory_mib
        self._warm_up = warm_up
        self._queue: deque[Task] = deque()
        self._changed = threading.Condition()
        self._keepers: list[threading.Thread] = []
        self._children: set[Child] = set()
        self._nursery: Nursery | None = None
        self._nursery_lock = threading.Lock()
        self._process = os.getpid()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, function: Callable[..., Any], *args: Any, deadline_s: float | None = None) -> Any:
        """`function(*args)` in a child. Both must pickle: a function at the top of a module, arguments that are data.

        The result must be plain data (None, numbers, text, lists, dicts) or a `Part`.

        Raises:
            ChildTimeout, ChildKilled, ChildError: see there.
        """
        return self.submit(function, *args, deadline_s=deadline_s).future.result()

    async def arun(self, function: Callable[..., Any], *args: Any, deadline_s: float | None = None) -> Any:
        """`run` for asyncio. Cancelled, it takes back a task that waits; one in a child ends by its deadline."""
        return await asyncio.wrap_future(self.submit(function, *args, deadline_s=deadline_s).future)

    def submit(self, function: Callable[..., Any], *args: Any, deadline_s: float | None = None) -> Task:
        """Queue a task and return at once."""
        task = Task(pickle.dumps((function, args)), self.deadline_s if deadline_s is None else deadline_s)
        self.start()
        with self._changed:
            self._require_open()
            self._queue.append(task)
            self._changed.notify()
        return task

    def start(self) -> None:
        """Start the children in the background, if they are not."""
        if os.getpid() != self._process:
            raise RuntimeError("this pool was made before a fork: make another one in this process")
        with self._changed:
            self._require_open()
            if not self._keepers:
                self._keepers = [
                    threading.Thread(target=self._keep, daemon=True, name=f"child-keeper-{index}")
                    for index in range(self.size)
                ]
                for keeper in self._keepers:
                    keeper.start()

    def pids(self) -> list[int]:
        """Process ids of the children that stand ready or work."""
        with self._changed:
            return sorted(child.pid for child in self._children)

    def close(self) -> None:
        """End all children; what waits or runs ends as `ChildKilled`."""
        if os.getpid() != self._process:
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        with self._nursery_lock:
            nursery = self._nursery
        if nursery is not None:
            nursery.close()
        for keeper in self._keepers:
            keeper.join()
        for task in self._queue:
            if task.ends or task.future.set_running_or_notify_cancel():
                task.future.set_exception(ChildKilled("the pool was closed"))
        self._queue.clear()

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this pool is closed")

    def _keep(self) -> None:
        """Life of a keeper, the thread that owns one child at a time."""
        child = self._new_child_or_none()
        while not self._closed:
            task = self._next_task()
            try:
                if child is not None and not child.idle():
                    self._discard(child)
                    child = self._new_child_or_none()
                if task is not None:
                    child = self._serve(child, task)
            except Exception as error:  # a bug of ours may cost a verdict, never a keeper: the queue would stop
                self._drop(child, task, error)
                child = self._new_child_or_none()

    def _next_task(self) -> Task | None:
        with self._changed:
            if not self._queue and not self._closed:
                self._changed.wait(IDLE_S)
            while self._queue and not self._closed:
                task = self._queue.popleft()
                if task.ends or task.future.set_running_or_notify_cancel():
                    return task
        return None

    def _serve(self, child: Child | None, task: Task) -> Child | None:
        """Do one task; returns the child for the next one."""
        try:
            child = child or self._new_child()
        except ChildError as error:
            task.future.set_exception(error)
            return None
        task.handed_at = time.monotonic()
        problem: Exception | None = None
        try:
            result = decode_reply(child.call(task.payload, task.handed_at + task.deadline_s))
        except (OSError, ChildError) as error:
            problem = error
        task.finished_at = time.monotonic()
        if isinstance(problem, OSError | BadReply):
            self._settle(task, problem, self._discard(child))
            return self._new_child_or_none()
        if problem is None:
            task.future.set_result(result)
        else:
            task.future.set_exception(problem)
        return child

    def _drop(self, child: Child | None, task: Task | None, error: Exception) -> None:
        """After what nobody has foreseen: the child goes, and the task ends unless it has ended or waits again."""
        with suppress(Exception):  # that may be what failed
            if child in self._children:  # ordered twice, its end would end the process that forks
                self._discard(child)
        with self._changed:
            settled = task is None or task.future.done() or task in self._queue
        if not settled:
            text = " ".join(str(error).split())
            task.future.set_exception(ChildKilled(f"the pool failed: {type(error).__name__}: {text}"))

    def _settle(self, task: Task, error: Exception, end: str) -> None:
        """A task that cost its child: too slow, out of step, or dead, which any child may be once by no fault."""
        late = isinstance(error, TimeoutError)
        task.ends.append(OVER_MEMORY if isinstance(error, OverMemory) else end)
        if isinstance(error, BadReply):
            task.future.set_exception(error)
        elif self._closed:
            task.future.set_exception(ChildKilled("the pool was closed"))
        elif (not late or isinstance(error, Starved)) and task.may_try_again:
            with self._changed:
                self._queue.appendleft(task)
                self._changed.notify()
        elif late:
            task.future.set_exception(ChildTimeout(f"not done within {task.deadline_s:g} s"))
        else:
            task.future.set_exception(ChildKilled(f"the child {', the next one '.join(task.ends)}"))

    def _new_child_or_none(self) -> Child | None:
        try:
            return self._new_child()
        except ChildError:  # the next task tries again and reports it
            return None

    def _new_child(self) -> Child:
        """Fork a child, from a new nursery if the old one is gone.

        Raises:
            ChildError: the warm-up raised, or no nursery lived long enough.
        """
        for _ in range(3):
            try:
                child = self._living_nursery().start_child()
            except OSError as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            except ChildError:
                raise
            except Exception as error:  # such as a warm-up that does not pickle: the task reports it
                raise ChildError(type(error).__name__, " ".join(str(error).split())) from error
            with self._changed:
                self._children.add(child)
            return child
        raise ChildError("RuntimeError", f"no child can be started: {reason}")

    def _living_nursery(self) -> Nursery:
        with self._nursery_lock:
            if self._closed:
                raise ChildError("RuntimeError", "this pool is closed")
            if self._nursery is None or self._nursery.gone:
                self._nursery = Nursery(self._warm_up, self._memory_mib)
            return self._nursery

    def _discard(self, child: Child) -> str:
        with self._changed:
            self._children.discard(child)
            self.replaced += 1
        return child.discard()
