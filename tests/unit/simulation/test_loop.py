"""Steps of the loop by hand, and its limits: no training, much staleness, more engines."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pangu_rl.simulation.engine import EngineCost
from pangu_rl.simulation.learner import Training
from pangu_rl.simulation.lengths import DrawnGroup, LognormalLengths, Prompts
from pangu_rl.simulation.loop import Setup, synchronous
from pangu_rl.simulation.stale import stale


class Given:
    """Answers in turn, over and over."""

    def __init__(self, *groups: tuple[int, ...]) -> None:
        self.drawn = [DrawnGroup(1, answers) for answers in groups]

    def groups(self, rng: np.random.Generator, count: int, completions: int) -> list[DrawnGroup]:
        return [self.drawn[index % len(self.drawn)] for index in range(count)]


def setup(train: float, **changes: object) -> Setup:
    base = Setup(
        engines=2,
        engine=EngineCost(step_s=1.0),
        slots=2,
        cache_tokens=10_000,
        prompts_per_step=4,
        train=lambda groups: Training(seconds=train, computing=train),
    )
    return replace(base, **changes)


def test_a_synchronous_step_by_hand():
    """Groups of (3, 5), (4, 2), (1, 1), (2, 8) in turn on two engines of two slots. Engine 0 has 3, 5, 1, 1: 3 ends at
    3, then 1 and 1 at 4 and 5, with 5 at 5. Engine 1 has 4, 2, 2, 8: 2 ends at 2, then 2 at 4 with 4, then 8 at 12."""
    steps = synchronous(
        setup(6.0, sync_s=2.0), Prompts(lengths=Given((3, 5), (4, 2), (1, 1), (2, 8)), completions=2), 2
    )
    assert steps.phases == {"rollout": 12.0, "reward": 0.0, "train": 6.0, "sync": 2.0}
    assert steps.step_s == 20.0 and steps.tokens == 26 and steps.tokens_per_s == 1.3
    assert steps.engines_idle == pytest.approx(1 - ((5 + 12) / 2 + 2) / 20)
    assert steps.learner_idle == pytest.approx(1 - (6 + 2) / 20)


def test_shared_devices_switch_and_idle_together():
    """Rollout 3 on both engines, training 6, switches 1 and syncs 2: nothing is idle."""
    steps = synchronous(
        setup(6.0, sync_s=2.0, switch_s=1.0, shared=True), Prompts(lengths=Given((3, 3)), completions=2), 1
    )
    assert steps.phases["rollout"] == 6.0  # two groups each, one after the other in two slots
    assert steps.step_s == 15.0 and steps.engines_idle == steps.learner_idle == pytest.approx(0.0)


def test_rounds_replace_groups_without_variance_one_after_the_other():
    class Alternating(Prompts):
        def stream(self):
            while True:
                yield DrawnGroup(1, (3, 3)), False
                yield DrawnGroup(1, (3, 3)), True

    trained: list[int] = []

    def train(groups):
        trained.append(len(groups))
        return Training(seconds=0.0, computing=0.0)

    prompts = Alternating(lengths=Given((3, 3)), completions=2)
    alone = synchronous(replace(setup(0.0), train=train), prompts, 1)
    rounds = synchronous(replace(setup(0.0, max_rounds=2), train=train), prompts, 1)
    # 4 groups, 2 of them flat; 2 more, 1 flat; 1 more, flat. Two groups on an engine follow each other: 6, then 3, 3.
    assert trained == [2, 3] and alone.phases["rollout"] == 6.0 and rounds.phases["rollout"] == 12.0


def test_a_run_that_learns_nothing_comes_to_its_end():
    """All groups are flat. A step of 4 groups replaces 2 * 4 of them, so 12 are drawn for it: 24 answers of 3 tokens in
    4 slots of a token a second, 18 seconds. Training nothing takes none."""
    trained: list[int] = []

    def train(groups):
        trained.append(len(groups))
        return Training(seconds=0.0, computing=0.0)

    prompts = Prompts(lengths=Given((3, 3)), completions=2, flat=1.0)
    steps = stale(replace(setup(0.0, max_rounds=2), train=train), prompts, 1, 4)
    assert set(trained) == {0}
    assert (steps.step_s, steps.tokens) == (pytest.approx(18.0), pytest.approx(72.0))


LONG = LognormalLengths(median=100, sigma=0.8, prompt=10, cap=1000)


def many(train: float, **changes: object) -> Setup:
    return replace(setup(train, engines=4, slots=8, prompts_per_step=8), **changes)


def test_no_training_time_leaves_the_rollout():
    prompts = Prompts(lengths=LONG, completions=4)
    steps = synchronous(many(0.0), prompts, 3)
    assert steps.step_s == steps.phases["rollout"]
    assert steps.learner_idle == 1.0


def test_much_staleness_comes_to_the_slower_of_the_two_rates():
    """A learner that is slower than the engines is never idle: a step is its training and its sync. One that is faster
    waits for them: they are never idle."""
    prompts = Prompts(lengths=LONG, completions=4)
    slow = stale(many(5000.0, sync_s=1.0), prompts, 8, 6)
    assert slow.step_s == pytest.approx(5001.0)
    fast = stale(many(0.0), prompts, 8, 60)
    assert fast.engines_idle < 0.03
    # 8 groups of 4 answers on 4 engines with 8 slots of a token a second, all of them always taken: 32 tokens a second.
    assert fast.tokens_per_s == pytest.approx(32, rel=0.03)


def test_more_staleness_never_costs_more_than_noise_and_is_never_exceeded():
    prompts = Prompts(lengths=LONG, completions=4)
    steps = [stale(many(400.0, sync_s=5.0), prompts, k, 8) for k in (1, 2, 4)]
    assert all(later.step_s <= earlier.step_s * 1.02 for earlier, later in pairwise(steps))
    assert [one.oldest for one in steps] == [1, 2, pytest.approx(3, abs=1)]
    assert all(one.oldest <= k for one, k in zip(steps, (1, 2, 4), strict=True))


def test_no_staleness_is_the_synchronous_loop_where_nobody_is_to_choose():
    """One engine with a slot for all: dealing makes no difference."""
    prompts = Prompts(lengths=LONG, completions=4)
    alone = setup(50.0, engines=1, slots=1000, prompts_per_step=8, sync_s=5.0)
    # The stale loop measures steps 4 to 7 of the stream, the synchronous one its first ones.
    seven, three = synchronous(alone, prompts, 7), synchronous(alone, prompts, 3)
    assert stale(alone, prompts, 0, 4).step_s == pytest.approx((7 * seven.step_s - 3 * three.step_s) / 4)


def test_more_engines_never_take_longer():
    prompts = Prompts(lengths=LONG, completions=4)
    seconds = [synchronous(many(100.0, engines=engines), prompts, 4).step_s for engines in (1, 2, 4, 8)]
    assert seconds == sorted(seconds, reverse=True)


def test_scores_that_take_long_hold_a_step_up():
    prompts = Prompts(lengths=LONG, completions=4)
    plain, slow = (synchronous(many(10.0, reward_s=seconds), prompts, 2) for seconds in (0.0, 30.0))
    assert slow.step_s == pytest.approx(plain.step_s + 30.0)
    assert stale(many(0.0, reward_s=30.0), prompts, 0, 2).step_s > stale(many(0.0), prompts, 0, 2).step_s + 25
