"""Reward workers under faults: a row may lose its verdict, its neighbours may not."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray

from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.errors import ConfigError, RewardError, RunError
from pangu_rl.records import Outcome, Score
from rewards import service
from rewards.children import ChildPool
from rewards.grader import Checked, Grader
from rewards.rules.gold import Gold
from rewards.service import RewardPool
from tests.unit.rewards.builders import completion, eventually, prompt
from tests.unit.rewards.cases import hostile_cases

PLUGINS = """
import os, re, time
from pangu_rl.records import Outcome, Part

def misbehave(prompt, completion):
    if "raise" in completion.text:
        raise KeyError("colour")
    if "exit" in completion.text:
        os._exit(1)
    if "sleep" in completion.text:
        time.sleep(2.5)
    if "nan" in completion.text:
        return float("nan")
    if "no verdict" in completion.text:
        return Part(value=None, outcome=Outcome(completion.text.split()[-1]), detail="on purpose")
    if "hold the GIL" in completion.text:
        re.match(r"(a+)+$", "a" * 40 + "b")
    return 1.0
"""
DEADLINE_S = 2.0
SLACK_S = 5.0
"""A kill and a new child on a busy machine; without a kill a hostile check takes minutes."""
MakePool = Callable[..., RewardPool]


@pytest.fixture(scope="module", autouse=True)
def runtime() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    (tmp_path / "plugins.py").write_text(PLUGINS)
    functions = (
        RewardFunctionConfig(name="boxed_accuracy"),
        RewardFunctionConfig(name=f"{tmp_path / 'plugins.py'}:misbehave", weight=0.5),
    )
    pools: list[RewardPool] = []

    def make(**settings: object) -> RewardPool:
        settings = {"functions": functions, "max_no_verdict_share": 0.5, **settings}
        pools.append(RewardPool(RewardsConfig(**settings)))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def submit(pool: RewardPool, texts: list[str]) -> None:
    for index, text in enumerate(texts):
        pool.submit(prompt("42"), completion(text, uid=f"0:p/{index}"))


def outcomes(pool: RewardPool) -> list[str]:
    return [str(score.outcome) for _, score in sorted(pool.collect().items())]


def worker_pids(pool: RewardPool) -> list[int]:
    """Waits until they have started."""
    return ray.get([worker.__ray_call__.remote(lambda worker: os.getpid()) for worker in pool._workers])


def test_scores_come_back_by_uid_and_the_pool_is_reusable(make_pool: MakePool) -> None:
    pool = make_pool(workers=2)
    submit(pool, [r"\boxed{42}", r"\boxed{41}", "nothing"])
    assert sorted(pool.waiting_for()) == ["0:p/0", "0:p/1", "0:p/2"]
    scores = pool.collect()
    assert [scores[f"0:p/{i}"].reward for i in range(3)] == [1.5, 0.5, 0.5]
    submit(pool, [r"\boxed{42}"])
    assert outcomes(pool) == ["correct"]
    assert pool.waiting_for() == [] and pool.restarts == 0


def test_finished_scores_are_handed_out_once_and_count_among_the_rest(make_pool: MakePool) -> None:
    """One of five has no verdict, which a share of 0.2 allows; of the three that are left it would be too many."""
    pool = make_pool(workers=1, max_no_verdict_share=0.2)
    submit(pool, [r"\boxed{42}", r"\boxed{41}"])
    early: dict[str, Score] = {}
    while len(early) < 2:
        found = pool.finished(wait_s=1.0)
        assert not found.keys() & early.keys()
        early |= found
    assert pool.finished() == {}
    for index, text in enumerate(["no verdict timeout", "nothing", "nothing"], start=2):
        pool.submit(prompt("42"), completion(text, uid=f"0:p/{index}"))
    scores = pool.collect(early)
    assert sorted(scores) == [f"0:p/{i}" for i in range(5)]
    assert scores["0:p/0"] is early["0:p/0"]


def test_a_slow_row_times_out_and_blocks_nobody(make_pool: MakePool) -> None:
    pool = make_pool(timeout_s=2.0)
    worker_pids(pool)
    submit(pool, ["sleep", *[r"\boxed{42}"] * 8])
    early: dict[str, Score] = {}
    while len(early) < 8:
        early |= pool.finished(wait_s=0.05)
    assert "0:p/0" not in early, "the others waited for it"
    assert [str(score.outcome) for _, score in sorted(pool.collect(early).items())] == ["timeout", *["correct"] * 8]
    assert pool.restarts == 0


def test_a_row_that_kills_its_worker_is_found_and_its_neighbours_keep_their_verdicts(make_pool: MakePool) -> None:
    pool = make_pool()
    submit(pool, [r"\boxed{42}", "exit", *[r"\boxed{41}"] * 4])
    assert outcomes(pool) == ["correct", "killed", *["incorrect"] * 4]
    assert pool.restarts == 3  # together, together again, alone


def test_a_worker_killed_from_outside_costs_no_verdict(make_pool: MakePool) -> None:
    pool = make_pool(workers=2, timeout_s=20.0)
    pid = worker_pids(pool)[0]
    submit(pool, ["sleep", "sleep", *[r"\boxed{42}"] * 4])
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)
    assert outcomes(pool) == ["no_box", "no_box", *["correct"] * 4]
    assert pool.restarts == 1


@pytest.mark.slow
def test_a_call_that_holds_the_interpreter_is_ended_from_outside(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "GRACE_S", 10.0)
    pool = make_pool(timeout_s=2.0)
    submit(pool, ["hold the GIL", r"\boxed{42}"])
    assert outcomes(pool) == ["timeout", "correct"]
    assert pool.restarts == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [("raise", "completion 0:p/1 raised KeyError: 'colour'"), ("nan", "completion 0:p/1 returned value nan")],
)
def test_a_failing_plugin_ends_the_step_with_its_name(make_pool: MakePool, text: str, message: str) -> None:
    pool = make_pool()
    submit(pool, [r"\boxed{42}", text])
    with pytest.raises(RewardError, match=r"plugins\.py:misbehave, " + message):
        pool.collect()


def test_too_many_rows_without_verdict_end_the_run_by_name(make_pool: MakePool) -> None:
    pool = make_pool(timeout_s=0.5, max_no_verdict_share=0.2)
    submit(pool, ["sleep", *["ok"] * 3])
    with pytest.raises(RunError, match=r"1 of 4 completions have no verdict, .* 0\.2: 0:p/0 \(.*misbehave: timeout\)"):
        pool.collect()


@pytest.mark.parametrize("outcome", ["timeout", "killed", "error"])
def test_every_kind_of_no_verdict_is_masked_and_counted_against_the_share(make_pool: MakePool, outcome: str) -> None:
    texts = [r"\boxed{42}", f"no verdict {outcome}", r"\boxed{41}", r"\boxed{42}"]
    pool = make_pool(max_no_verdict_share=0.25)
    submit(pool, texts)
    scores = pool.collect()
    assert [scores[f"0:p/{i}"].reward for i in range(4)] == [1.5, None, 0.5, 1.5]
    assert scores["0:p/1"].outcome == outcome and scores["0:p/1"].parts["boxed_accuracy"].value == 0.0
    submit(pool, [*texts, texts[1]])
    with pytest.raises(RunError, match=rf"2 of 5 completions .*: 0:p/1 \(.*misbehave: {outcome}\); 0:p/4 \("):
        pool.collect()


def test_checks_by_algebra_run_in_children_of_the_worker(make_pool: MakePool) -> None:
    def grade(deadline_s: float) -> list[str]:
        functions = (RewardFunctionConfig(name="boxed_accuracy", args={"deadline_s": deadline_s}),)
        pool = make_pool(functions=functions, max_no_verdict_share=1.0)
        for index, answer in enumerate(["(x-1)(x+1)", "(x-1)(x+2)", "(x+1)(x-1)"] * 4):
            pool.submit(prompt("x^2 - 1", "math"), completion(rf"\boxed{{{answer}}}", uid=f"0:p/{index:02}"))
        return outcomes(pool)

    assert grade(20.0) == ["correct", "incorrect", "correct"] * 4
    assert grade(1e-6) == ["timeout"] * 12


@ray.remote(num_cpus=0)
class GradingActor:
    """An async actor of somebody else's run, which grades hostile text."""

    def __init__(self) -> None:
        self._pool = ChildPool(2, deadline_s=DEADLINE_S)
        self._grader = Grader(self._pool)

    async def warm(self) -> Outcome:
        return (await self._grader.agrade(r"\boxed{(x-1)(x+1)}", Gold("x^2 - 1", "math"))).outcome

    async def grade(self, prediction: str, gold: Gold) -> Checked:
        return await self._grader.acheck(prediction, gold)

    async def state(self) -> tuple[int, int, list[int]]:
        """Resident bytes, children wanted, children there."""
        return psutil.Process().memory_info().rss, self._pool.size, self._pool.pids()


def test_hostile_rows_all_at_once_in_an_async_actor() -> None:
    actor = GradingActor.remote()
    assert ray.get(actor.warm.remote()) is Outcome.CORRECT
    before, size, _ = ray.get(actor.state.remote())
    cases = hostile_cases()
    start = time.monotonic()
    found = ray.get([actor.grade.remote(case.prediction, case.gold) for case in cases])
    assert time.monotonic() - start <= math.ceil(len(cases) / size) * (DEADLINE_S + SLACK_S)
    assert max(checked.seconds for checked in found) <= DEADLINE_S + SLACK_S
    assert [case.id for case, checked in zip(cases, found) if (checked.part.value == 1.0) is not case.expected] == []
    assert ray.get(actor.warm.remote()) is Outcome.CORRECT
    after, _, pids = ray.get(actor.state.remote())
    assert after - before < 50 << 20
    assert eventually(lambda: len(ray.get(actor.state.remote())[2]) == size)
    ray.kill(actor)
    assert eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids)), "children outlive the actor"


def test_an_unknown_function_is_found_before_any_actor_starts() -> None:
    with pytest.raises(ConfigError, match="did you mean boxed_accuracy"):
        RewardPool(RewardsConfig(functions=(RewardFunctionConfig(name="boxed_accurasy"),)))
