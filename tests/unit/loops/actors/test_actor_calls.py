"""Which actor is lost: one that died, one that is stopped, and never one that only waits for it or takes its time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pangu_rl.errors import DataError, RankLost, RunError
from pangu_rl.loops.actors.actor_calls import ActorCalls
from tests.small_ray import small_ray

SILENCE_S = 2.0


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    with small_ray():
        yield


class Member:
    """What a rank does of its life, without what it computes."""

    def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def act(self, what: str) -> str:
        return getattr(self, what)() or what

    def rest(self) -> None:
        time.sleep(3 * SILENCE_S)

    def fail(self) -> None:
        raise DataError("row 3 is bad")

    def lose_peer(self) -> None:
        raise RuntimeError("Connection closed by peer")

    def ask_for_all(self) -> None:
        torch.empty(2**60)

    @ray.method(concurrency_group="health")
    def ping(self) -> str:
        return f"pid {os.getpid()}"


@pytest.fixture
def calls() -> Iterator[ActorCalls]:
    remote = ray.remote(concurrency_groups={"health": 1})(Member).options(num_cpus=0)
    made = ActorCalls("learner rank", [remote.remote() for _ in range(2)], SILENCE_S)
    made.each("ping")  # before, they may take their time to start
    yield made
    made.kill()


def test_results_come_in_the_order_of_the_actors_however_long_one_takes(calls: ActorCalls) -> None:
    assert calls.dealt("act", ["rest", "ping"])[0] == "rest"
    first, second = calls.each("ping")
    assert first != second and calls.first("ping") == first
    assert calls.wait([calls._actors[0].ping.remote()], "ping", step=2) == [first]


def test_a_stopped_one_is_named_and_not_the_one_that_computes(calls: ActorCalls) -> None:
    def write() -> None:
        with pytest.raises(RankLost):
            calls.first("rest")

    waits = threading.Thread(target=write)
    waits.start()  # as the thread that waits for a checkpoint
    with pytest.raises(RankLost, match=rf"learner rank 1.* gave no sign of life for {SILENCE_S:g} s in act"):
        calls.dealt("act", ["rest", "stop"])
    waits.join(2 * SILENCE_S)
    assert not waits.is_alive()
    with pytest.raises(RankLost, match="learner rank 1"):
        calls.each("ping")


def test_a_dead_one_is_named_at_once_whoever_speaks_first(calls: ActorCalls) -> None:
    """The collective of the other rank fails first; a third call would wait for ever."""
    started = time.monotonic()
    with pytest.raises(RankLost, match=r"learner rank 1.* died in act: The actor died"):
        calls.dealt("act", ["lose_peer", "die"])
    assert time.monotonic() - started < 30


def test_what_an_actor_raises_for_the_user_arrives_and_loses_nobody(calls: ActorCalls) -> None:
    with pytest.raises(DataError, match="row 3 is bad"):
        calls.dealt("act", ["fail", "ping"])
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        calls.dealt("act", ["lose_peer", "ping"])
    assert len(calls.each("ping")) == 2


def test_one_that_has_no_memory_left_is_named_in_one_line(calls: ActorCalls) -> None:
    calls.each("rest")  # for long enough to hear where each runs
    line = (
        r"^learner rank 1 \(pid \d+\) ran out of memory in act: .*allocate memory.*goes on from the newest checkpoint$"
    )
    with pytest.raises(RunError, match=line):
        calls.dealt("act", ["ping", "ask_for_all"])
    assert len(calls.each("ping")) == 2


def test_one_that_is_to_start_on_a_lost_node_is_named_at_once() -> None:
    """Ray waits for ever for devices that no node has, where the first sign of life may take 600 s; an actor without
    devices it refuses with an error of its own."""
    gone = NodeAffinitySchedulingStrategy("ab" * 28, soft=False)
    for options, says in (
        ({"num_cpus": 64}, r"^learner rank 1 had not started when its node b was gone$"),
        ({"num_cpus": 0, "scheduling_strategy": gone}, r"^learner rank 1 died in ping: "),
    ):
        remote = ray.remote(concurrency_groups={"health": 1})(Member)
        actors = [remote.options(**own).remote() for own in ({"num_cpus": 0}, options)]
        made = ActorCalls("learner rank", actors, SILENCE_S, {0: None, 1: "b"}.get)
        try:
            with pytest.raises(RankLost, match=says):
                made.each("ping")
        finally:
            made.kill()
