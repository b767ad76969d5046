"""A lost rank costs the steps since the newest checkpoint, so often and no oftener."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pangu_rl.cluster.ray_runtime import Preemption
from pangu_rl.errors import CheckpointError, Preempted, RankLost, RunError
from pangu_rl.loops.actors.restarts import with_restarts


def losing(*checkpoints: int | None) -> tuple[Any, Callable[[], str]]:
    """A run that loses a rank once for each of `checkpoints`, the newest then, and ends well after them."""
    left, said = list(checkpoints), []
    run: Any = SimpleNamespace(preempted=False, preemption=Preemption(), said=said, say=said.append)

    def train() -> str:
        if not left:
            return "done"
        newest = left.pop(0)
        run.checkpoints = SimpleNamespace(newest_step=lambda: newest)
        raise RankLost("learner rank 1 died")

    return run, train


def test_new_checkpoints_between_losses_give_all_restarts_back() -> None:
    run, train = losing(None, 2, 2, 4, 4)
    assert with_restarts(run, 2, train) == "done"
    assert [line.split("; ")[1].split(",")[0] for line in run.said] == [
        f"restart {restart} of 2" for restart in (1, 1, 2, 1, 2)
    ]
    assert "from the beginning" in run.said[0] and "from the checkpoint of step 2" in run.said[1]


@pytest.mark.parametrize(("limit", "losses"), [(2, (4, 4, 4)), (0, (None,)), (1, (None, None))])
def test_a_rank_that_is_lost_at_the_same_place_again_and_again_ends_the_run(limit: int, losses: Any) -> None:
    run, train = losing(*losses)
    with pytest.raises(RunError, match=rf"learner rank 1 died; the ranks had their {limit} restarts") as raised:
        with_restarts(run, limit, train)
    assert not isinstance(raised.value, RankLost)
    assert len(run.said) == limit


def test_other_errors_and_a_preempted_run_end_at_once() -> None:
    run, train = losing(4)
    run.preempted = True
    with pytest.raises(Preempted, match="learner rank 1 died; the same command goes on from the checkpoint of step 4"):
        with_restarts(run, 3, train)

    def fail() -> None:
        raise CheckpointError("the disk is full")

    with pytest.raises(CheckpointError):
        with_restarts(run, 3, fail)
