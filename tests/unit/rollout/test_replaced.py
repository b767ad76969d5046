"""Engines that take a lost one's place, in virtual time: what keeps them from it, and who draws meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pangu_rl.errors import ConfigError, RunError, UserError
from pangu_rl.records import RolloutRequest, Scorable
from rollout.engine import UNKNOWN_VERSION
from rollout.pool import RolloutPool
from tests.unit.rollout.asked import requests
from tests.unit.rollout.virtual_time import VirtualActors, steady, virtual_pool

NO_ROOM = UserError("the vLLM engine did not start on unused: out of memory")


def drawn(pool: RolloutPool, wanted: Sequence[RolloutRequest]) -> None:
    assert sorted(one.uid for one in pool.generate(wanted)) == sorted(one.uid for one in wanted)


def test_one_that_does_not_start_is_tried_again(caplog) -> None:
    """The first actor is lost, the third does not start, the fourth does."""
    actors = VirtualActors(steady(1.0), hung={0: 0.0}, refusing={2: NO_ROOM})
    pool = virtual_pool(actors, actors=2, silence_s=10.0)
    drawn(pool, requests(3))
    pool.interrupt()
    pool._crew.settle()
    assert pool.restarts == 2
    assert f"rollout actor 0 did not start: {NO_ROOM}; restart 2 of 3" in caplog.text


def test_when_none_starts_any_more_the_run_ends_by_the_last_cause() -> None:
    actors = VirtualActors(steady(1.0), hung={0: 0.0}, refusing=dict.fromkeys((1, 2, 3), NO_ROOM))
    pool = virtual_pool(actors, actors=1, silence_s=10.0)
    with pytest.raises(RunError, match=r"actor 0 did not start: .*out of memory; no actor is left after 3 restarts"):
        drawn(pool, requests(3))


def test_before_any_has_started_the_cause_is_the_configuration() -> None:
    wrong = ConfigError("rollout.kv_cache_gib is 0.001: too little")
    with pytest.raises(ConfigError, match=r"^rollout.kv_cache_gib is 0.001: too little$"):
        virtual_pool(VirtualActors(steady(1.0), refusing={0: wrong}), actors=1)


def test_one_that_takes_too_long_to_build_says_which_setting_gives_it_more() -> None:
    actors = VirtualActors(steady(1.0), start_s=601.0)
    with pytest.raises(RunError, match=r"life for 600 s while it built its engine: raise rollout\.silence_s if"):
        virtual_pool(actors, actors=1, silence_s=300.0, max_restarts=0)
    assert virtual_pool(actors, actors=1, silence_s=602.0, max_restarts=0).restarts == 0


def without_weights(pool: RolloutPool, *indices: int) -> None:
    """As engines are that were replaced and wait for the next broadcast."""
    for slot in pool._crew.slots:
        if slot.index in indices:
            slot.version = UNKNOWN_VERSION


def test_what_was_dealt_to_those_without_the_weights_is_drawn_by_others() -> None:
    """Every second group is the second actor's by turn, and the first draws them: 20 answers of 5 s."""
    actors = VirtualActors(steady(1.0))
    pool = virtual_pool(actors, actors=2, silence_s=10.0)
    without_weights(pool, 1)
    drawn(pool, requests(5))
    assert actors.now() == 100.0


def test_nor_asked_for_scores() -> None:
    pool = virtual_pool(VirtualActors(steady(1.0)), actors=2, silence_s=10.0)
    without_weights(pool, 0)
    assert pool.score([Scorable(token_ids=(1, 2))]) == [[-1.0]]
    without_weights(pool, 1)
    with pytest.raises(RunError, match="no rollout actor holds weights version 0"):
        pool.score([Scorable(token_ids=(1, 2))])
