"""Engines whose node is gone, in virtual time: they move or are given up at once, and nobody waits for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.errors import NoPlace, RunError
from rollout.engine import EngineSpec
from rollout.pool import RolloutPool
from tests.unit.rollout.test_silence import request
from tests.unit.rollout.virtual_time import Call, VirtualActors, steady

GONE = NoPlace("the node of an engine, b, is gone, and no other has 4 free devices for it (a 0)")


class OfNodes(VirtualActors):
    """An actor on node b waits for ever to start; on another it does at once."""

    def create(self, spec: EngineSpec, options: Any) -> Any:
        actor = super().create(spec)
        if options["node"] == "b":
            actor.start.remote = lambda: Call(iter(()), ends=False)
        return actor


def pool_of(
    actors: OfNodes, options: Callable[[int], dict[str, str]], lost: Callable[[int], str | None]
) -> RolloutPool:
    spec = EngineSpec(
        model=ModelConfig(path="unused"),
        rollout=RolloutConfig(engine="fake", actors=2),
        accelerator=get_accelerator("cpu"),
        model_path=Path("unused"),
    )
    return RolloutPool(spec, options, actors=actors, place_lost=lost)


def test_one_that_waits_for_devices_of_a_lost_node_moves_within_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """And not after 600 s, the limit of a start."""
    nodes, actors = {0: ["a"], 1: ["b", "c"]}, OfNodes(steady(0.5))
    pool = pool_of(actors, lambda index: {"node": nodes[index].pop(0)}, lambda index: "b" if nodes[index] else None)
    pool.start()
    assert (actors.now(), actors.killed_at, pool.restarts) == (1.0, [1.0], 1)
    assert "rollout actor 1 had not started when its node b was gone; restart 1 of 3" in caplog.text
    assert len(list(pool.generate([request("p", 4), request("q", 4)]))) == 2


def test_one_without_a_place_is_given_up_at_once_and_the_other_draws(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[int] = []

    def options(index: int) -> dict[str, str]:
        asked.append(index)
        if asked.count(1) > 1:
            raise GONE
        return {"node": "ab"[index]}

    actors = OfNodes(steady(0.5))
    pool = pool_of(actors, options, lambda index: "b" if index else None)
    pool.start()
    assert (actors.now(), asked, pool.restarts) == (1.0, [0, 1, 1], 0)
    assert caplog.messages == [f"rollout actor 1 had not started when its node b was gone; it is given up: {GONE}"]
    assert [one.uid for one in pool.generate([request("p", 4), request("q", 4)])] == ["p/0", "q/0"]


def test_the_last_one_without_a_place_ends_the_run() -> None:
    asked: list[int] = []

    def options(index: int) -> dict[str, str]:
        asked.append(index)
        if len(asked) > 2:
            raise GONE
        return {"node": "b"}

    pool = pool_of(OfNodes(steady(0.5)), options, lambda index: "b")
    with pytest.raises(RunError, match=r"node b was gone; no actor is left: the node of an engine, b, is gone.*outsta"):
        pool.start()
