"""The loop, in virtual time: engines, learner and the weights between them -> **where a step's seconds go**.

Here the synchronous one: rollout, train, sync, in turn. On shared devices states are moved out of the way in between.
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
    shared: bool = False
    """Engines and learner have the same devices."""
    switch_s: float = 0.0
    """On shared devices: from rollout to training and back, together."""
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


LEARNER = "learner"
"""Its row in the picture."""


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
    """Share of a step in which the mean engine neither draws nor takes weights; of shared devices, in which they do
    nothing at all."""
    learner_idle: float
    tokens: float
    """Drawn tokens."""
    lag: float = 0.0
    """Versions between a trained group's first token and the weights that train on it, the mean."""
    oldest: int = 0
    """The same, at most."""
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
        drawn = list(islice(stream, missing))
        draw_round(setup, fleet, [group for group, _ in drawn])
        kept = [group for group, varied in drawn if varied]
        trained += kept
        tokens += sum(sum(group.answers) for group, _ in drawn)
        missing, rounds = missing - len(kept), rounds + 1
    training = setup.train(trained)
    rollout = max(engine.now for engine in fleet.engines)
    phases = {"rollout": rollout, "reward": setup.reward_s, "train": training.seconds, "sync": setup.sync_s}
    phases = phases | {"switch": setup.switch_s} if setup.switch_s else phases
    whole, moving = sum(phases.values()), setup.sync_s + setup.switch_s
    drawing = fmean(engine.busy for engine in fleet.engines)
    both = drawing + training.computing
    return Steps(
        step_s=whole,
        phases=phases,
        engines_idle=1 - ((both if setup.shared else drawing) + moving) / whole,
        learner_idle=1 - ((both if setup.shared else training.computing) + moving) / whole,
        tokens=tokens,
        spans=_spans(setup, fleet, rollout + setup.reward_s, training.seconds),
    )


def draw_round(setup: Setup, fleet: Fleet, groups: Sequence[DrawnGroup]) -> None:
    """All answers of `groups`, from the time when the last engine is free."""
    begun = max(engine.now for engine in fleet.engines)
    for number, group in enumerate(groups):
        fleet.submit(number % setup.engines, setup.requests(number, group), begun)
    while fleet.next_time() < math.inf:
        fleet.finish()


def _spans(setup: Setup, fleet: Fleet, begun: float, seconds: float) -> list[Span]:
    """`begun`: when rollout and scoring are over; `seconds` those of training."""
    half = setup.switch_s / 2
    trained = begun + half + seconds
    spans = [*draw_spans(fleet), Span(LEARNER, "train", begun + half, trained)]
    if half:
        spans += [Span(LEARNER, "switch", begun, begun + half), Span(LEARNER, "switch", trained, trained + half)]
    return [*spans, *sync_spans(setup, trained + half)]


def draw_spans(fleet: Fleet) -> list[Span]:
    return [
        Span(engine_row(index), "rollout", start, end)
        for index, engine in enumerate(fleet.engines)
        for start, end in engine.drawn()
    ]


def sync_spans(setup: Setup, at: float) -> list[Span]:
    rows = [LEARNER, *map(engine_row, range(setup.engines))]
    return [Span(row, "sync", at, at + setup.sync_s) for row in rows]


def engine_row(index: int) -> str:
    return f"engine {index}"
