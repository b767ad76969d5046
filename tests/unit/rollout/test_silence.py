"""A call is stalled by silence and never by length, in virtual time."""

from __future__ import annotations

import pytest

from pangu_rl.errors import Preempted, RunError
from pangu_rl.records import RolloutRequest, SamplingParams
from tests.unit.rollout.asked import wait_for
from tests.unit.rollout.virtual_time import VirtualActors, steady, virtual_pool

SILENCE_S = 60.0
PACE = 0.5
"""Seconds a token."""


def request(name: str, tokens: int) -> RolloutRequest:
    return RolloutRequest(
        uid=f"{name}/0",
        group=name,
        prompt_uid=name,
        prompt_token_ids=(1,),
        sampling=SamplingParams(max_new_tokens=tokens),
        seed=1,
    )


def test_an_answer_ten_times_as_long_as_the_silence_limit_finishes():
    """1200 tokens at 0.5 s: 600 s, on the first of two actors; the second is done after 2 s and idle then."""
    actors = VirtualActors(steady(PACE))
    pool = virtual_pool(actors, actors=2, silence_s=SILENCE_S)
    drawn = list(pool.generate([request("long", 1200), request("short", 4)]))
    assert [completion.uid for completion in drawn] == ["short/0", "long/0"]
    assert (actors.now(), actors.killed_at, pool.restarts) == (600.0, [], 0)


def test_a_hung_engine_is_found_after_its_silence_beside_one_that_reports_every_second():
    """The first actor's last sign is its report at 30 s, so it is replaced at 90 s and the answer drawn anew: 690 s.
    The other's reports come every second until 600 s."""
    actors = VirtualActors(steady(PACE), hung={0: 30.0})
    pool = virtual_pool(actors, actors=2, silence_s=SILENCE_S)
    drawn = list(pool.generate([request("hung", 1200), request("long", 1200)]))
    assert [completion.uid for completion in drawn] == ["long/0", "hung/0"]
    assert actors.killed_at == [90.0]
    assert actors.now() == 690.0


def test_an_engine_that_never_shows_life_ends_the_run_after_its_restarts():
    actors = VirtualActors(steady(PACE), hung={0: 0.0, 1: 0.0})
    pool = virtual_pool(actors, actors=1, silence_s=SILENCE_S, max_restarts=1)
    with pytest.raises(RunError, match=r"actor 0 gave no sign of life for 60 s; no actor is left after 1 restarts"):
        list(pool.generate([request("p", 1200)]))
    assert actors.killed_at == [60.0, 120.0]


def test_a_straggler_is_seen_with_its_tokens_and_its_time():
    actors = VirtualActors(steady(PACE))
    seen = []

    def look() -> None:
        if actors.now() >= 100.0 and not seen:
            seen.append((pool.waiting(), pool.progress()))

    pool = virtual_pool(actors, look, actors=2, silence_s=SILENCE_S)
    list(pool.generate([request("long", 1200), request("short", 4)]))
    # Asked when the 100th report is there and not yet read: the 99th says 198 tokens.
    [(lines, progress)] = seen
    assert lines == ["rollout actor 0, silent for 0 s: long/0 (198 tokens in 100 s)"]
    assert progress == {"long/0": 198}


def test_whoever_waits_asks_every_second_whether_to_stop_and_can_go_on_after():
    """Nothing comes for 50 s: a token takes them. What was submitted is drawn to its end all the same."""
    actors = VirtualActors(steady(50.0))
    asked: list[float] = []

    def stop() -> None:
        asked.append(actors.now())
        if asked.count(20.0) == 1 and actors.now() == 20.0:
            raise Preempted("SIGTERM")

    pool = virtual_pool(actors, stop, actors=1, silence_s=SILENCE_S)
    pool.submit([request("p", 1)])
    with pytest.raises(Preempted):
        wait_for(pool, 1)
    assert asked[1:] == [float(second) for second in range(1, 21)]
    assert [waiting.uid for waiting in pool.in_flight()] == ["p/0"]
    assert [completion.uid for completion in wait_for(pool, 1)] == ["p/0"]
    assert actors.now() == 50.0
