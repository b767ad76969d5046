"""A completion and a typed gold -> a verdict: box, exact comparison here, algebra in a killable child, each pair once.

    prediction --extract_boxed--> answer --grade_directly--> verdict
                                            | only algebra can tell
                                            '--> child --grade_by_algebra--> verdict | timeout | killed | error

`python -c "from rewards import grade; print(grade('so \\\\boxed{0.5}', '1/2'))"` is all it takes elsewhere.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pangu_rl.records import Outcome, Part
from rewards.children import ChildError, ChildKilled, ChildPool, ChildTimeout, Task
from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.dispatch import grade_by_algebra, grade_directly
from rewards.rules.gold import BadGold, Gold
from rewards.rules.verdict import no_box

REMEMBERED = 8192
"""Verdicts kept for equal (answer, gold) pairs: a step's groups many times over."""
REMEMBERED_CHARS = 1024
"""Longer answers are graded anew, so that what is kept stays below some ten megabytes."""

_Pair = tuple[str, Gold]


@dataclass(frozen=True, slots=True)
class Checked:
    """What the grader found, and the seconds of checking, without queueing; a remembered pair keeps its first ones."""

    part: Part
    seconds: float


class Grader:
    """Grades; never hangs, and answers no verdict (`timeout`, `killed`, `error`) with the value None. Thread-safe."""

    def __init__(self, pool: ChildPool) -> None:
        """`pool` starts when algebra is first needed."""
        self._pool = pool
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[_Pair, Checked] = OrderedDict()
        self._under_way: dict[_Pair, Future[Checked]] = {}

    def grade(self, prediction: str, gold: Gold, *, deadline_s: float | None = None) -> Part:
        """The verdict on the last complete box of `prediction`; the deadline counts from hand-over to a child."""
        return self.check(prediction, gold, deadline_s=deadline_s).part

    async def agrade(self, prediction: str, gold: Gold, *, deadline_s: float | None = None) -> Part:
        """`grade` for asyncio."""
        return (await self.acheck(prediction, gold, deadline_s=deadline_s)).part

    def check(self, prediction: str, gold: Gold, *, deadline_s: float | None = None) -> Checked:
        """`grade` with the time it took."""
        found = self._begin(prediction, gold, deadline_s)
        return found if isinstance(found, Checked) else found.result()

    async def acheck(self, prediction: str, gold: Gold, *, deadline_s: float | None = None) -> Checked:
        """`check` for asyncio. Cancelling it cancels nothing for others who wait for the same pair."""
        found = self._begin(prediction, gold, deadline_s)
        return found if isinstance(found, Checked) else await asyncio.shield(asyncio.wrap_future(found))

    def _begin(self, prediction: str, gold: Gold, deadline_s: float | None) -> Checked | Future[Checked]:
        start = time.perf_counter()
        answer = extract_boxed(prediction)
        if answer is None:
            return Checked(no_box(), time.perf_counter() - start)
        pair = (answer, gold)
        with self._lock:
            if pair in self._verdicts:
                self._verdicts.move_to_end(pair)
                return self._verdicts[pair]
        try:
            part = grade_directly(answer, gold)
        except BadGold as error:
            part = Part.no_verdict(Outcome.ERROR, str(error))
        if part is None:
            return self._by_algebra(pair, deadline_s)
        checked = Checked(part, time.perf_counter() - start)
        self._remember(pair, checked)
        return checked

    def _by_algebra(self, pair: _Pair, deadline_s: float | None) -> Future[Checked]:
        with self._lock:
            if pair in self._under_way:
                return self._under_way[pair]
            task = self._pool.submit(grade_by_algebra, *pair, deadline_s=deadline_s)
            found = self._under_way[pair] = Future()

        def land(_: Future[Any]) -> None:
            checked = Checked(_part_of(task), task.seconds)
            self._remember(pair, checked)
            with self._lock:
                del self._under_way[pair]
            found.set_result(checked)

        task.future.add_done_callback(land)
        return found

    def _remember(self, pair: _Pair, checked: Checked) -> None:
        if checked.part.value is None or len(pair[0]) > REMEMBERED_CHARS:
            return
        with self._lock:
            self._verdicts[pair] = checked
            if len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)


def grade(
    prediction: str,
    gold: str,
    answer_type: str = "auto",
    *,
    choices: Sequence[str] = (),
    metric: str | None = None,
    coordinates: str = "pixel",
    image_size: tuple[int, int] | None = None,
) -> Part:
    """Grade a completion's boxed answer against a gold answer of a declared type.

    Example: `grade("so \\\\boxed{0.5}", "1/2").outcome` is `correct`. A gold that cannot be graded against is outcome
    `error` with the value None, as is every other "no verdict".
    """
    size = None if image_size is None else (image_size[0], image_size[1])
    return default_grader().grade(prediction, Gold(gold, answer_type, tuple(choices), metric, coordinates, size))


def default_grader() -> Grader:
    """The grader of this process, which all callers share."""
    global _default
    with _default_lock:
        if _default is None:
            pool = ChildPool()
            atexit.register(pool.close)
            _default = Grader(pool)
        return _default


_default: Grader | None = None
_default_lock = threading.Lock()


def _forget_default() -> None:
    """A forked process has none of the parent's threads: it makes a grader of its own."""
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_default)


def _part_of(task: Task) -> Part:
    try:
        part = task.future.result()
    except ChildTimeout as error:
        return Part.no_verdict(Outcome.TIMEOUT, str(error))
    except ChildKilled as error:
        return Part.no_verdict(Outcome.KILLED, str(error))
    except ChildError as error:
        return Part.no_verdict(Outcome.ERROR, error.text if error.kind == BadGold.__name__ else str(error))
    return part
