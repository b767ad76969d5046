"""The loop, in virtual time: engines, learner and the weights between them -> **where a step's seconds go**.

Synchronous: rollout, train, sync, in turn; so is `shared`, which also moves states out of the way in between. Stale: the
engines never wait as long as no trained token is older than k versions. A group begins under the weights of the time when
an engine takes it; at most (version + k + 1) steps' worth of groups may have begun, and the step of version v waits for
every group that began at v - k or before. Running answers keep their tokens across a sync.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean

from pangu_rl.simulation.engine import Engine, EngineCost, Request
from pangu_rl.simulation.fleet import Fleet
from pangu_rl.simulation.learner import Training
from pangu_rl.simulation.lengths import DrawnGroup, Prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A placement, as far as time is concerned."""

    engines: int
    engine: EngineCost
    slots: int
    cache_tokens: int
    prompts_per_step: int
    train: Callable[[Sequence[DrawnGroup]], Training]
    """The updates of a step on these groups."""
    sync_s: float = 0.0
    """Weights from the learner into every engine, all of them at once."""
    switch_s: float = 0.0
    """Shared devices: from rollout to training and back, together."""
    reward_s: float = 0.0
    """From an answer's last token to its score."""
    prefix_caching: bool = False
    max_rounds: int = 0
    """Further rounds of prompts in place of groups without variance."""

    def fleet(self) -> Fleet:
        return Fleet([Engine(self.engine, self.slots, self.cache_tokens) for _ in range(self.engines)])

    def requests(self, number: int, group: DrawnGroup) -> list[Request]:
        return [
            Request(
                group=number,
                prompt=group.prompt,
                answer=answer,
                prefill=0 if index and self.prefix_caching else group.prompt,
            )
            for index, answer in enumerate(group.answers)
        ]


@dataclass(frozen=True, slots=True)
class Span:
    """What one row of the picture does from `start` to `end`, seconds."""

    row: str
    phase: str
    start: float
    end: float


@dataclass(slots=True, kw_only=True)
class Steps:
    """Some steps of a loop, means of one."""

    step_s: float
    phases: dict[str, float]
    """Phase -> seconds; they add up to `step_s`."""
    engines_idle: float
    """Share of a step in which the mean engine neither draws nor takes weights."""
    learner_idle: float
    tokens: float
    """Drawn tokens."""
    lag: float = 0.0
    """Versions between a trained group's first token and the weights that train on it, the mean."""
    spans: list[Span] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.step_s


def synchronous(setup: Setup, prompts: Prompts, steps: int) -> Steps:
    """Means of `steps` steps, and the first one's spans; group i is drawn by engine i mod the number of engines."""
    stream = prompts.stream()
    taken = [_synchronous_step(setup, stream) for _ in range(steps)]
    phases = {name: fmean(step.phases[name] for step in taken) for name in taken[0].phases}
    whole = sum(phases.values())
    return Steps(
        step_s=whole,
        phases=phases,
        # Shares of steps of different lengths count by their lengths.
        engines_idle=fmean(step.engines_idle * step.step_s for step in taken) / whole,
        learner_idle=fmean(step.learner_idle * step.step_s for step in taken) / whole,
        tokens=fmean(step.tokens for step in taken),
        spans=taken[0].spans,
    )


def _synchronous_step(setup: Setup, stream: Iterator[tuple[DrawnGroup, bool]]) -> Steps:
    fleet = setup.fleet()
    trained: list[DrawnGroup] = []
    tokens, rounds, missing = 0, 0, setup.prompts_per_step
    while missing and rounds <= setup.max_rounds:
        begun = max(engine.now for engine in fleet.engines)
        drawn = list(islice(stream, missing))
        for number, (group, _) in enumerate(drawn):
            fleet.submit(number % setup.engines, setup.requests(number, group), begun)
        while fleet.next_time() < math.inf:
            fleet.finish()
        kept = [group for group, varied in drawn if varied]
        trained += kept
        tokens += sum(sum(group.answers) for group, _ in drawn)
        missing, rounds = missing - len(kept), rounds + 1
    training = setup.train(trained)
    rollout = max(engine.now for engine in fleet.engines)
    phases = {"rollout": rollout, "reward": setup.reward_s, "train": training.seconds, "sync": setup.sync_s}
    phases = phases | {"switch": setup.switch_s} if setup.switch_s else phases
    whole, moving = sum(phases.values()), setup.sync_s + setup.switch_s
    return Steps(
        step_s=whole,
        phases=phases,
        engines_idle=1 - (fmean(engine.busy for engine in fleet.engines) + moving) / whole,
        learner_idle=1 - (training.computing + moving) / whole,
        tokens=tokens,
        spans=_spans(setup, [engine.now for engine in fleet.engines], rollout + setup.reward_s, training.seconds),
    )


def _spans(setup: Setup, ends: Sequence[float], begun: float, seconds: float) -> list[Span]:
    """`ends`: when each engine has drawn its last answer; `begun`: when training begins."""
    spans = [Span(f"engine {index}", "rollout", 0.0, end) for index, end in enumerate(ends)]
    begun += setup.switch_s / 2
    trained = begun + seconds
    spans.append(Span("learner", "train", begun, trained))
    if setup.switch_s:
        spans.append(Span("learner", "switch", begun - setup.switch_s / 2, begun))
        spans.append(Span("learner", "switch", trained, trained + setup.switch_s / 2))
    return [*spans, *_sync_spans(setup, trained + setup.switch_s / 2)]


def _sync_spans(setup: Setup, at: float) -> list[Span]:
    rows = ["learner", *(f"engine {index}" for index in range(setup.engines))]
    return [Span(row, "sync", at, at + setup.sync_s) for row in rows]
