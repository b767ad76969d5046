"""What is submitted is drawn once each, and keeps its tokens over interruptions, syncs and losses."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from pangu_rl.errors import Preempted
from pangu_rl.records import Completion, RolloutRequest
from rollout import pulse
from rollout.fake_engine import FakeEngine
from rollout.pool import RolloutPool
from tests.unit.rollout.asked import manifest, requests, wait_for

SLOW_S = 0.2
"""Of an answer, so that an interruption finds some unfinished."""


def undisturbed(wanted: Sequence[RolloutRequest], version: int = 0) -> dict[str, Completion]:
    engine = FakeEngine(None, seconds=0.0)
    engine.weight_version = version
    return by_uid(engine.generate(wanted))


def drawn(pool: RolloutPool, count: int) -> dict[str, Completion]:
    completions = wait_for(pool, count)
    assert not pool.in_flight() and not pool.finished()
    assert len({completion.uid for completion in completions}) == len(completions) == count
    return by_uid(completions)


def by_uid(completions: Iterable[Completion]) -> dict[str, Completion]:
    return {completion.uid: completion for completion in completions}


def tokens(completions: dict[str, Completion]) -> dict[str, tuple]:
    return {uid: (c.token_ids, c.logprobs, c.weight_versions) for uid, c in completions.items()}


def test_submitted_while_engines_draw(make_pool):
    wanted = requests(4, size=3)
    pool = make_pool(slow=0.05)
    pool.submit(wanted[:3])
    first = wait_for(pool, 1)
    pool.submit(wanted[3:])
    assert tokens(by_uid(first) | drawn(pool, 12 - len(first))) == tokens(undisturbed(wanted))
    # The second actor had nothing to do when more came.
    assert pool.restarts == 0


def test_interrupted_answers_keep_their_tokens_and_go_on(make_pool):
    wanted = requests(4, size=3)
    pool = make_pool(slow=SLOW_S)
    pool.submit(wanted)
    early = wait_for(pool, 1)
    time.sleep(SLOW_S)
    pool.interrupt()
    done = [*early, *pool.finished()]
    waiting = pool.in_flight()
    assert {r.uid for r in waiting} | {c.uid for c in done} == {r.uid for r in wanted}
    expected = undisturbed(wanted)
    begun = {request.uid: request.begun for request in waiting if request.begun}
    assert pool.progress() == {uid: len(found.token_ids) for uid, found in begun.items()}
    for uid, found in begun.items():
        assert found.token_ids == expected[uid].token_ids[: len(found.token_ids)]
        assert len(found.token_ids) == len(found.logprobs) == len(found.weight_versions)
    time.sleep(2 * SLOW_S)
    assert pool.in_flight() == waiting and not pool.finished()
    assert tokens(by_uid(done) | drawn(pool, len(waiting))) == tokens(expected)


class Reporting(FakeEngine):
    """Reports every token."""

    def __init__(self, spec, seconds):
        super().__init__(spec, seconds=seconds)
        pulse.PULSE_S = 0.0  # of the actor's process


def test_a_sync_keeps_the_tokens_and_goes_on_under_the_new_weights(make_pool):
    """Each token, with its log-prob, is the one that its own version draws at its place. All answers have 5 tokens, at
    0.3 s each, and the sync comes when one is seen to have begun."""
    wanted = [replace(request, seed=4 + number) for number, request in enumerate(requests(2, size=1))]
    pool = make_pool(Reporting, slow=1.5)
    pool.sync(manifest(1))
    pool.submit(wanted)
    while not pool.progress():
        assert not pool.finished(wait_s=0.1)
    pool.sync(manifest(2))
    found = drawn(pool, 2)
    by_version = {1: undisturbed(wanted, 1), 2: undisturbed(wanted, 2)}
    mixed = 0
    for uid, completion in found.items():
        versions = completion.weight_versions
        assert versions == tuple(sorted(versions))
        assert completion.weight_version == versions[0]
        mixed += len(set(versions)) > 1
        places = range(len(versions))
        assert completion.token_ids == tuple(by_version[v][uid].token_ids[n] for n, v in zip(places, versions))
    assert {v for c in found.values() for v in c.weight_versions} == {1, 2}
    assert 1 <= mixed <= 2


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_what_a_lost_engine_had_is_drawn_once_by_another(make_pool, end):
    wanted = requests(4, size=3)
    pool = make_pool(slow=0.1, silence_s=2.0)
    pool.submit(wanted)
    first = wait_for(pool, 1)
    os.kill(pool.processes()[0].pid, end)
    assert tokens(by_uid(first) | drawn(pool, 12 - len(first))) == tokens(undisturbed(wanted))
    assert pool.restarts >= 1


class Short(FakeEngine):
    """Ends a stream after four answers, whatever it still owes."""

    def generate(self, requests, intake=None):
        return itertools.islice(super().generate(requests, intake), 4)


def test_what_a_stream_ended_without_is_drawn_by_another(make_pool):
    wanted = requests(4, size=3)
    pool = make_pool(Short)
    pool.submit(wanted)
    assert tokens(drawn(pool, 12)) == tokens(undisturbed(wanted))
    assert 1 <= pool.restarts <= 2


def test_a_stage_draws_in_between(make_pool):
    wanted, others = requests(2, size=3), requests(5)[8:]
    pool = make_pool(slow=SLOW_S)
    pool.submit(wanted)
    time.sleep(SLOW_S / 2)
    between = list(pool.generate(others))
    assert tokens(by_uid(between)) == tokens(undisturbed(others))
    assert tokens(drawn(pool, 6)) == tokens(undisturbed(wanted))


def test_a_stopped_stage_leaves_the_pool_ready(make_pool):
    wanted = requests(4)
    pool = make_pool(slow=SLOW_S)
    pool._crew._stop = raising = Once()
    stream = pool.generate(wanted)
    next(stream)
    raising.armed = True
    with pytest.raises(Preempted):
        list(stream)
    assert pool.outstanding() == []
    assert tokens(by_uid(pool.generate(wanted))) == tokens(undisturbed(wanted))
    assert pool.restarts == 0


class Once:
    armed = False

    def __call__(self) -> None:
        if self.armed:
            self.armed = False
            raise Preempted("SIGTERM")
