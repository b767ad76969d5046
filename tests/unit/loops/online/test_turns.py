"""Engines and learner on the same devices, in virtual time: whenever SIGTERM comes, a checkpoint can be written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pangu_rl.errors import Preempted
from pangu_rl.loops.online.turns import SharedTurns
from pangu_rl.loops.session import Run
from pangu_rl.monitoring.phases import PhaseTimer
from rollout.pool import RolloutPool
from tests.unit.rollout.asked import manifest, requests
from tests.unit.rollout.virtual_time import VirtualActors, steady, virtual_pool

PACE = 0.3
"""Seconds a token, five of which are an answer."""


class Ranks:
    """A learner that is either on its devices or in host memory."""

    on_devices = True

    def to_host(self) -> None:
        assert self.on_devices
        self.on_devices = False

    def to_device(self) -> None:
        assert not self.on_devices
        self.on_devices = True


def step(phases: PhaseTimer, turns: SharedTurns, pool: RolloutPool) -> None:
    """As `run_grpo.grpo_step`, of one version of the weights."""
    turns.draw()
    with phases.phase("rollout"):
        assert len(list(pool.generate(requests(2, size=1)))) == 2
    turns.train()
    with phases.phase("sync", whole=True):
        turns.load()
        pool.sync(manifest(0))


@pytest.mark.parametrize("second", range(24))
def test_after_a_signal_the_devices_are_the_learners_and_all_engines_sleep(second: int) -> None:
    """The first sleep takes 3 s, waking 3 s, an answer 1.5 s, loading 3 s: two steps take 27 s with a sleep each."""
    actors, phases, ranks = VirtualActors(steady(PACE)), PhaseTimer(), Ranks()
    run = SimpleNamespace(phases=phases, preempted=False, preemption=SimpleNamespace(preempted=Preempted))

    def stop() -> None:
        run.preempted = begun and actors.now() >= second
        Run.stop(run)

    begun = False
    pool = virtual_pool(actors, stop, actors=2, placement="shared")
    pool.sleep()
    turns, begun = SharedTurns(pool, ranks, phases.phase), True
    with pytest.raises(Preempted):
        while True:
            step(phases, turns, pool)
    assert actors.now() >= second
    turns.train()
    assert ranks.on_devices and pool._weights.asleep
    assert all(slot.call is None for slot in pool._crew.slots)


def test_a_sleep_that_was_left_on_the_way_is_waited_for() -> None:
    actors, left = VirtualActors(steady(PACE)), []

    def stop() -> None:
        if actors.now() >= 2.0 and not left:
            left.append(actors.now())
            raise Preempted("SIGTERM")

    pool = virtual_pool(actors, stop, actors=1, placement="shared")
    with pytest.raises(Preempted):
        pool.sleep()
    pool.sleep()
    assert (left, actors.now()) == ([2.0], 3.0)
