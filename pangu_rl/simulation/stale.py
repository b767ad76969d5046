"""The stale loop, event by event: an answer is whole, a score is there, an update is done, whichever comes first.

A group begins under the weights of the time when an engine takes it. Two rules keep every trained token at most k
versions old: no more than (version + k + 1) steps' worth of groups have begun, and the step at version v waits for
every group that began at v - k or before. Running answers keep their tokens across a sync and go on.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean

from pangu_rl.simulation.fleet import Fleet
from pangu_rl.simulation.learner import Training
from pangu_rl.simulation.lengths import DrawnGroup, Prompts
from pangu_rl.simulation.loop import LEARNER, Setup, Span, Steps, draw_spans, sync_spans

WARM_UP = 3
"""Steps beyond the staleness that are not counted: the first ones find no answers that were begun before."""
SHOWN = 2
"""Steps whose spans are kept."""


@dataclass(slots=True)
class _Begun:
    group: DrawnGroup
    varied: bool
    version: int
    """Of the weights under which it began."""
    missing: int
    """Answers that are not whole."""


@dataclass(slots=True)
class _Update:
    """A step that the learner is at."""

    begin: float
    end: float
    version: int
    training: Training
    groups: list[_Begun]


@dataclass(slots=True)
class _Done:
    """What is known when a step's weights are in the engines."""

    at: float
    drawing: float
    """Seconds that the mean engine has drawn so far."""
    tokens: int
    """Of the answers that are whole."""
    update: _Update


@dataclass(slots=True)
class _Loop:
    setup: Setup
    staleness: int
    stream: Iterator[tuple[DrawnGroup, bool]]
    fleet: Fleet
    version: int = 0
    counted: int = 0
    """Groups that have begun and count as a step's."""
    begun: dict[int, _Begun] = field(default_factory=dict)
    """Those that are not trained."""
    scoring: list[tuple[float, int]] = field(default_factory=list)
    """(when its score is there, number of the group), a heap."""
    ready: list[int] = field(default_factory=list)
    aside: int = 0
    """Groups without variance that others are drawn for since the last step."""
    number: int = 0
    tokens: int = 0
    free_at: float = 0.0
    """When the learner may take a step."""
    update: _Update | None = None
    done: list[_Done] = field(default_factory=list)

    def run(self, steps: int) -> list[_Done]:
        now = 0.0
        while len(self.done) < steps:
            self._feed(now)
            self._take_step(now)
            now = min(self.fleet.next_time(), self._score_time(), self._learner_time(now))
            if now == self.fleet.next_time():
                self._finish(now)
            while self.scoring and self.scoring[0][0] <= now:
                self._score()
            if self.update is not None and self.update.end <= now:
                self._sync(now)
        return self.done

    def _feed(self, now: float) -> None:
        limit = (self.version + self.staleness + 1) * self.setup.prompts_per_step
        while self.counted < limit and (index := self.fleet.with_room()) is not None:
            group, varied = next(self.stream)
            self.begun[self.number] = _Begun(group, varied, self.version, len(group.answers))
            self.fleet.submit(index, self.setup.requests(self.number, group), now)
            self.number += 1
            self.counted += 1

    def _score_time(self) -> float:
        return self.scoring[0][0] if self.scoring else math.inf

    def _learner_time(self, now: float) -> float:
        if self.update is not None:
            return self.update.end
        return self.free_at if self.free_at > now else math.inf

    def _finish(self, now: float) -> None:
        for request in self.fleet.finish():
            self.tokens += request.answer
            group = self.begun[request.group]
            group.missing -= 1
            if not group.missing:
                heapq.heappush(self.scoring, (now + self.setup.reward_s, request.group))

    def _score(self) -> None:
        _, number = heapq.heappop(self.scoring)
        # As in `Backlog`: a step replaces so many, and further ones count among its own.
        if self.begun[number].varied or self.aside >= self.setup.max_rounds * self.setup.prompts_per_step:
            self.ready.append(number)
        else:
            del self.begun[number]
            self.aside += 1
            self.counted -= 1

    def _take_step(self, now: float) -> None:
        wanted = self.setup.prompts_per_step
        if self.update is not None or now < self.free_at or len(self.ready) < wanted:
            return
        ready = set(self.ready)
        due = {number for number, group in self.begun.items() if group.version <= self.version - self.staleness}
        if not due <= ready:
            return
        # The oldest first: what is due now, then what is whole; `sorted` keeps the order in which they became so.
        self.ready.sort(key=lambda number: number not in due)
        chosen, self.ready = self.ready[:wanted], self.ready[wanted:]
        self.aside = 0
        groups = [self.begun.pop(number) for number in chosen]
        training = self.setup.train([group.group for group in groups if group.varied])
        self.update = _Update(now, now + training.seconds, self.version, training, groups)

    def _sync(self, now: float) -> None:
        assert self.update is not None
        self.fleet.pause(now, self.setup.sync_s)
        self.free_at = now + self.setup.sync_s
        self.version += 1
        drawing = fmean(engine.busy for engine in self.fleet.engines)
        self.done.append(_Done(self.free_at, drawing, self.tokens, self.update))
        self.update = None


def stale(setup: Setup, prompts: Prompts, staleness: int, steps: int) -> Steps:
    """Means of `steps` steps in the steady state; the spans are those of the last `SHOWN`."""
    loop = _Loop(setup, staleness, prompts.stream(), setup.fleet())
    done = loop.run(WARM_UP + staleness + steps)
    before, last = done[-steps - 1], done[-1]
    updates = [step.update for step in done[-steps:]]
    whole = (last.at - before.at) / steps
    train = fmean(update.training.seconds for update in updates)
    drawing = (last.drawing - before.drawing) / steps
    lags = [update.version - group.version for update in updates for group in update.groups]
    return Steps(
        step_s=whole,
        phases={"wait": whole - train - setup.sync_s, "train": train, "sync": setup.sync_s},
        # An engine ends the decode step that is under way when new weights come, so that the two may overlap a little.
        engines_idle=max(0.0, 1 - (drawing + setup.sync_s) / whole),
        learner_idle=1 - (fmean(update.training.computing for update in updates) + setup.sync_s) / whole,
        tokens=(last.tokens - before.tokens) / steps,
        lag=fmean(lags),
        oldest=max(lags),
        spans=_window(loop, done[-min(SHOWN, steps) - 1].at),
    )


def _window(loop: _Loop, start: float) -> list[Span]:
    """Spans of all rows from `start` on, which is their 0."""
    spans = draw_spans(loop.fleet)
    for step in loop.done:
        spans.append(Span(LEARNER, "train", step.update.begin, step.update.end))
        spans += sync_spans(loop.setup, step.update.end)
    end = loop.done[-1].at
    return [
        Span(span.row, span.phase, max(span.start, start) - start, min(span.end, end) - start)
        for span in spans
        if span.end > start and span.start < end
    ]
