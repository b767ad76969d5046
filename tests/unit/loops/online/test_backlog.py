"""The bound on staleness, by luck of every kind: groups finish in any order, and no token is ever too old."""

from __future__ import annotations

import random

import pytest

from pangu_rl.loops.online.backlog import Backlog, oldest_version
from pangu_rl.records import Completion, FinishReason, Group, Prompt


def group(name: str, *versions: int, trained: bool = True) -> Group:
    """A group of one completion, whose tokens are of `versions`."""
    completion = Completion(
        uid=f"{name}/0",
        group=name,
        prompt_uid=name,
        token_ids=(7,) * len(versions),
        logprobs=(-1.0,) * len(versions),
        text="",
        finish_reason=FinishReason.STOP,
        weight_versions=versions,
    )
    prompt = Prompt(uid=name, messages=(), answer="")
    return Group(prompt=prompt, group=name, prompt_token_ids=(1,), completions=[completion], scores=[], trained=trained)


def names(groups: list[Group] | None) -> list[str] | None:
    return groups and [group.group for group in groups]


def test_so_many_are_admitted_that_the_last_is_not_too_old() -> None:
    """Two a step and two versions: six before step 1 takes its own, then the four of the steps 2 and 3."""
    backlog = Backlog(per_step=2, max_staleness=2, last_step=9)
    assert backlog.room(version=1) == 6
    backlog.admit("abcdef", version=1)
    assert backlog.room(version=1) == 0
    backlog.finish(group("c", 1))
    assert backlog.take() is None
    backlog.finish(group("a", 1))
    assert names(backlog.take()) == ["c", "a"]
    assert backlog.room(version=1) == 0
    assert backlog.room(version=2) == 2


def test_nothing_is_drawn_past_the_last_step() -> None:
    backlog = Backlog(per_step=2, max_staleness=4, last_step=3)
    assert backlog.room(version=1) == 6


def test_a_straggler_is_waited_for_once_it_would_grow_too_old() -> None:
    """One a step, one version: `b`, admitted at 1, must train in step 2, although `c` of version 2 is there first."""
    backlog = Backlog(per_step=1, max_staleness=1, last_step=9)
    backlog.admit("ab", version=1)
    backlog.finish(group("a", 1))
    assert names(backlog.take()) == ["a"]
    backlog.admit("c", version=2)
    backlog.finish(group("c", 2))
    assert backlog.take() is None
    backlog.finish(group("b", 1, 2))
    assert names(backlog.take()) == ["b"]
    assert names(backlog.take()) == ["c"]


def test_a_straggler_that_has_time_is_not_waited_for() -> None:
    backlog = Backlog(per_step=1, max_staleness=2, last_step=9)
    backlog.admit("abc", version=1)
    backlog.finish(group("c", 1))
    assert names(backlog.take()) == ["c"]


def test_groups_without_variance_are_replaced_up_to_the_bound() -> None:
    """`a` is replaced, so `b` and `c` train; the next one without variance would count as one of the two."""
    backlog = Backlog(per_step=2, max_staleness=1, last_step=9, replaced=1)
    backlog.admit("abcd", version=1)
    backlog.finish(group("a", 1, trained=False))
    assert backlog.room(version=1) == 1
    backlog.finish(group("b", 1))
    backlog.finish(group("c", 1))
    assert names(backlog.take()) == ["a", "b", "c"]


@pytest.mark.parametrize("staleness", [1, 2, 4, 8])
@pytest.mark.parametrize("replaced", [0, 3])
@pytest.mark.parametrize("seed", range(25))
def test_no_token_is_ever_too_old_and_no_step_starves(staleness: int, replaced: int, seed: int) -> None:
    """Updates, syncs and ends of answers in a random order; an answer's tokens are of every version it lived through.

    At the start the engines hold the most that may be under way: all groups of `staleness` + 1 steps.
    """
    rng = random.Random(seed)
    steps, per_step = 12, rng.randint(1, 5)
    backlog = Backlog(per_step=per_step, max_staleness=staleness, last_step=steps, replaced=replaced)
    version, admitted, training = 1, 0, False
    begun: dict[str, int] = {}  # group -> version of its first token
    trained: list[str] = []
    busiest = 0
    while version <= steps:
        if room := backlog.room(version):
            drawn = [str(admitted + index) for index in range(room)]
            backlog.admit(drawn, version)
            admitted += room
            # A request may wait in the engine's queue, so that its first token is of a later version.
            begun |= {name: version + (rng.random() < 0.1) for name in drawn}
        busiest = max(busiest, len(backlog.drawing))
        moves = ["finish"] * 4 * bool(begun) + ["sync"] * training
        move = rng.choice(moves or ["take"])
        if move == "finish":
            name = max(begun, key=lambda name: rng.random() - 0.5 * (int(name) % 7 == 0))
            first = min(begun.pop(name), version)
            backlog.finish(group(name, *range(first, version + 1), trained=rng.random() < 0.7))
        elif move == "sync":
            version, training = version + 1, False
        if not training and version <= steps:
            before = backlog.step
            groups = backlog.take()
            if groups is not None:
                assert before == version, "a step takes its groups once the one before it is in the engines"
                assert per_step <= len(groups) <= per_step + replaced
                for taken in groups:
                    if taken.trained:
                        assert before - oldest_version(taken) <= staleness
                        trained.append(taken.group)
                training = True
            else:
                assert begun or backlog.room(version), "nothing left to wait for"
    assert len(set(trained)) == len(trained) > 0
    assert busiest == per_step * (staleness + 1)


def test_staleness_zero_is_the_synchronous_rule() -> None:
    backlog = Backlog(per_step=2, max_staleness=0, last_step=9)
    backlog.admit("ab", version=1)
    backlog.finish(group("a", 1))
    backlog.finish(group("b", 1))
    assert names(backlog.take()) == ["a", "b"]
    assert backlog.room(version=1) == 0
    assert backlog.room(version=2) == 2
