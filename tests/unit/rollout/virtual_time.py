"""Actors without Ray and a clock without time: what each does, and when, is written down."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ray.exceptions import RayTaskError

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.records import Completion, FinishReason, Progress, RolloutRequest
from rollout.engine import EngineSpec
from rollout.pool import RolloutPool

Item = Completion | Progress
Script = Callable[[Sequence[RolloutRequest]], Iterator[tuple[float, Item]]]
"""Requests of a stream -> its items, each with the seconds from the stream's begin; a hung one stops and never ends."""


CHANGE_S = 3.0
"""To fall asleep, to wake, to load weights."""


class Call:
    """A stream of (due, item) or, with the one item `None`, a plain call."""

    def __init__(self, items: Iterator[tuple[float, Any]], ends: bool) -> None:
        self._items = items
        self._ends = ends
        self.due = 0.0
        self.step()

    def step(self) -> None:
        self.due, self.item = next(self._items, (self.due if self._ends else math.inf, StopIteration))


def plain(due: float, result: Any = None) -> Call:
    """A call that is no stream."""
    return Call(iter([(due, result)]), True)


class VirtualActor:
    """One whose streams follow `script`, and end if they `ends`; it is given `start` and `score` where it is made."""

    def __init__(self, actors: VirtualActors, script: Script, ends: bool) -> None:
        now = actors.now
        self.generate = _Method(
            lambda number, requests, live: Call(
                ((begin + at, item) for begin, (at, item) in zip(itertools.repeat(now()), script(requests))), ends
            )
        )
        self.interrupt = _Method(lambda number: None)
        self.sleep = _Method(lambda level: plain(now() + CHANGE_S))
        self.wake = _Method(lambda: plain(now() + CHANGE_S))
        self.load_weights = _Method(
            lambda manifest, link: plain(now() + CHANGE_S, {tensor.name: tensor.digest for tensor in manifest.tensors})
        )


class _Method:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class VirtualActors:
    """Follows `RayActors`. Actors are named by the order of their making: the `hung` fall silent, the `refusing` raise
    when their engines are built, which takes the others `start_s`. Each scores a token by its own place: 0, -1, ..."""

    def __init__(
        self,
        script: Script,
        hung: dict[int, float] | None = None,
        refusing: dict[int, Exception] | None = None,
        start_s: float = 0.0,
    ) -> None:
        self.killed_at: list[float] = []
        self._script = script
        self._hung = hung or {}
        self._refusing = refusing or {}
        self._start_s = start_s
        self._made = itertools.count()
        self._now = 0.0

    def create(self, spec: EngineSpec, options: None = None) -> VirtualActor:
        made = next(self._made)
        until = self._hung.get(made, math.inf)

        def script(requests: Sequence[RolloutRequest]) -> Iterator[tuple[float, Item]]:
            return itertools.takewhile(lambda timed: timed[0] <= until, self._script(requests))

        actor = VirtualActor(self, script, ends=until == math.inf)
        actor.start = _Method(lambda: plain(self._now + self._start_s, self._refusing.get(made)))
        actor.score = _Method(lambda sequences: plain(self._now, [[-float(made)]]))
        return actor

    def kill(self, actor: VirtualActor) -> None:
        self.killed_at.append(self._now)

    def now(self) -> float:
        return self._now

    def wait(self, calls: Sequence[Call], timeout: float) -> Call | None:
        first = min(calls, key=lambda call: call.due)
        found = first.due <= self._now + timeout
        self._now = max(self._now, first.due) if found else self._now + timeout
        return first if found else None

    def result(self, call: Call) -> Any:
        if isinstance(call.item, Exception):
            raise RayTaskError("method", "", call.item)
        return call.item

    def item(self, call: Call) -> Item:
        item = call.item
        if item is StopIteration:
            raise StopIteration
        call.step()
        return item


def steady(pace: float) -> Script:
    """Answers one after another, a token every `pace` seconds, and a report of progress every second."""

    def script(requests: Sequence[RolloutRequest]) -> Iterator[tuple[float, Item]]:
        at = 0.0
        for request in requests:
            length = request.sampling.max_new_tokens
            yield from (
                (at + second, Progress(tokens={request.uid: int(second / pace)}))
                for second in range(1, int(length * pace))
                if int(second / pace) > int((second - 1) / pace)
            )
            at += length * pace
            yield at, answer(request)

    return script


def answer(request: RolloutRequest) -> Completion:
    length = request.sampling.max_new_tokens
    return Completion(
        uid=request.uid,
        group=request.group,
        prompt_uid=request.prompt_uid,
        token_ids=(1,) * length,
        logprobs=(-1.0,) * length,
        text="",
        finish_reason=FinishReason.LENGTH,
        weight_versions=(0,) * length,
    )


def virtual_pool(world: VirtualActors, stop: Callable[[], None] = lambda: None, **rollout: Any) -> RolloutPool:
    spec = EngineSpec(
        model=ModelConfig(path="unused"),
        rollout=RolloutConfig(engine="fake", **rollout),
        accelerator=get_accelerator("cpu"),
        model_path=Path("unused"),
    )
    pool = RolloutPool(spec, stop=stop, actors=world)
    pool.start()
    return pool
