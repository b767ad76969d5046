"""prompt stream -> requests -> **answers drawn while the learner trains** -> groups, for `trainer.max_staleness` > 0.

The engines draw without a pause: prompts are admitted as long as `backlog` has room, groups are scored and finish in
any order, and a step takes the oldest that are whole. The driver's part is `_turn`, which hands on what has come. The
loop calls it while it waits for groups, and a thread does while the ranks train (`meanwhile`); nothing else happens to
the pool and to the reward workers then, so that only one thread ever speaks to them.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pangu_rl.errors import Preempted, RunError
from pangu_rl.loops.online import in_flight
from pangu_rl.loops.online.backlog import Backlog, oldest_version
from pangu_rl.loops.online.collect import Batch, Collector
from pangu_rl.loops.online.in_flight import Answer, Asked, Drawn
from pangu_rl.records import Completion, Group, Prompt, RolloutRequest
from rewards.rubric import no_verdict_problem

TURN_S = 0.1
"""Longest wait for an answer before scores are looked at again."""


@dataclass(slots=True)
class Open:
    """A group that is being drawn or scored."""

    group: Group
    requests: list[RolloutRequest]
    answers: dict[str, Answer] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return len(self.answers) == len(self.requests) and all(answer.score for answer in self.answers.values())


class DrawAhead:
    """Groups for steps to come, none of whose tokens will be older than `trainer.max_staleness` when they train."""

    def __init__(self, collector: Collector, prompts: Sequence[Prompt]) -> None:
        self._collector = collector
        self._pool, self._rewards = collector.pool, collector.rewards
        self._prompts = {prompt.uid: prompt for prompt in prompts}
        self._open: dict[str, Open] = {}
        self._batch: Batch | None = None
        self._backlog = self._empty(step=1)
        self._looked = 0.0

    def take(self, step: int) -> Batch:
        """The groups of `step`, once enough of them are whole.

        Raises:
            RunError: too many rows without a verdict; no engine is left.
        """
        assert step == self._backlog.step, f"step {step} takes groups, step {self._backlog.step} is next"
        while (groups := self._backlog.take()) is None:
            self._turn(TURN_S)
        limit = self._collector.config.trainer.max_staleness
        assert all(step - oldest_version(group) <= limit for group in groups if group.trained)
        scores = [score for group in groups for score in group.scores]
        share = self._collector.config.rewards.max_no_verdict_share
        if problem := no_verdict_problem(scores, len(scores), share):
            raise RunError(problem)
        per_step = self._backlog.per_step
        self._batch = Batch(
            step=step,
            groups=groups,
            rounds=-(-len(groups) // per_step),
            stream_state=self._collector.stream.state_dict(),
        )
        return self._batch

    @contextmanager
    def meanwhile(self, background: ThreadPoolExecutor) -> Iterator[None]:
        """Draw and score in a thread of `background` as long as the context lasts; raises what went wrong there."""
        done = threading.Event()

        def turns() -> None:
            try:
                while not done.is_set():
                    if not self._turn(TURN_S):
                        done.wait(TURN_S)
            except Preempted:
                pass  # whoever asks the pool next is told again

        running = background.submit(turns)
        try:
            yield
        finally:
            done.set()
            running.result()

    def settle(self) -> None:
        """Take up every score that is under way, so that others may use the reward workers."""
        while self._rewards.waiting_for():
            self._take_scores(self._rewards.finished(TURN_S))

    def state(self, trained: int) -> tuple[dict[str, Any], pa.Table]:
        """What a checkpoint after step `trained` holds: the prompt stream, and all that it has begun to answer."""
        self._receive(self._pool.finished())
        begun = {request.uid: request for request in self._pool.in_flight()}
        drawn = []
        for name, entry in self._open.items():
            asked = {r.uid: Asked(r.seed, begun[r.uid].begun) for r in entry.requests if r.uid not in entry.answers}
            drawn.append(Drawn(name, self._backlog.drawing[name], entry.answers, asked))
        untrained = self._batch.groups if self._batch and self._batch.step > trained else []
        for group in (*untrained, *self._backlog.aside, *self._backlog.finished):
            drawn.append(in_flight.of_group(group))
        return self._collector.stream.state_dict(), in_flight.to_table(drawn)

    def restore(self, step: int, table: pa.Table | None) -> None:
        """Go on after `step` with what `state` gave, or with nothing; what is under way is given up.

        Raises:
            DataError: a picture of a prompt that was begun has changed or is gone.
        """
        self.settle()
        self._pool.withdraw()
        self._open, self._batch, self._backlog = {}, None, self._empty(step + 1)
        for drawn in in_flight.from_table(table) if table is not None else ():
            self._restore(drawn)

    def _restore(self, drawn: Drawn) -> None:
        epoch, _, uid = drawn.group.partition(":")
        [group], requests = self._collector.begin([(int(epoch), self._prompts[uid])], step=drawn.version)
        self._admit([group], requests, drawn.version)
        self._open[drawn.group].answers = dict(drawn.answers)
        asked = [(request, drawn.asked[request.uid]) for request in requests if request.uid in drawn.asked]
        self._pool.submit([dataclasses.replace(request, seed=old.seed, begun=old.begun) for request, old in asked])
        for answer in drawn.answers.values():
            if answer.score is None:
                self._rewards.submit(group.prompt, answer.completion)
        self._close_if_whole(drawn.group)

    def _turn(self, wait_s: float) -> bool:
        """Admit, receive and score; False when nothing is under way."""
        backlog, version = self._backlog, self._pool.weight_version
        if room := min(backlog.room(version), backlog.per_step):
            groups, requests = self._collector.begin(self._collector.stream.next(room), step=version)
            self._admit(groups, requests, version)
            self._pool.submit(requests)
        self._receive(self._pool.finished(wait_s))
        drawing = bool(self._pool.in_flight())
        if not drawing or time.monotonic() - self._looked > TURN_S:
            self._take_scores(self._rewards.finished(0.0 if drawing else wait_s))
            self._looked = time.monotonic()
        return bool(self._open)

    def _admit(self, groups: Sequence[Group], requests: Sequence[RolloutRequest], version: int) -> None:
        self._backlog.admit([group.group for group in groups], version)
        self._open |= {group.group: Open(group, []) for group in groups}
        for request in requests:
            self._open[request.group].requests.append(request)

    def _receive(self, completions: Sequence[Completion]) -> None:
        for completion in completions:
            entry = self._open[completion.group]
            entry.answers[completion.uid] = Answer(completion)
            self._rewards.submit(entry.group.prompt, completion)
            _ = completion.arrays  # made while the engines draw, not when ranks wait for packs

    def _take_scores(self, scores: Mapping[str, Any]) -> None:
        for uid, score in scores.items():
            name = uid.rpartition("/")[0]
            self._open[name].answers[uid].score = score
            self._close_if_whole(name)

    def _close_if_whole(self, name: str) -> None:
        entry = self._open[name]
        if entry.is_whole:
            answers = [entry.answers[request.uid] for request in entry.requests]
            entry.group.completions = [answer.completion for answer in answers]
            entry.group.scores = [answer.score for answer in answers]
            self._collector.judge([entry.group])
            self._backlog.finish(entry.group)
            del self._open[name]

    def _empty(self, step: int) -> Backlog:
        config = self._collector.config
        dynamic, per_step = config.algorithm.dynamic_sampling, config.trainer.prompts_per_step
        return Backlog(
            per_step=per_step,
            max_staleness=config.trainer.max_staleness,
            last_step=config.trainer.steps,
            replaced=dynamic.max_rounds * per_step if dynamic.enabled else 0,
            step=step,
        )
