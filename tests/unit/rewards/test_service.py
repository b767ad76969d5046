"""Reward workers under faults: a row may lose its verdict, its neighbours may not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from pangu_rl.config.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.errors import ConfigError, RewardError, RunError
from rewards import service
from rewards.service import RewardPool
from tests.unit.rewards.builders import completion, prompt

PLUGINS = """
import os, re, time

def misbehave(prompt, completion):
    if "raise" in completion.text:
        raise KeyError("colour")
    if "exit" in completion.text:
        os._exit(1)
    if "sleep" in completion.text:
        time.sleep(2.5)
    if "nan" in completion.text:
        return float("nan")
    if "hold the GIL" in completion.text:
        re.match(r"(a+)+$", "a" * 40 + "b")
    return 1.0
"""
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


def test_scores_come_back_by_uid_and_the_pool_is_reusable(make_pool: MakePool) -> None:
    pool = make_pool(workers=2)
    submit(pool, [r"\boxed{42}", r"\boxed{41}", "nothing"])
    assert sorted(pool.waiting_for()) == ["0:p/0", "0:p/1", "0:p/2"]
    scores = pool.collect()
    assert [scores[f"0:p/{i}"].reward for i in range(3)] == [1.5, 0.5, 0.5]
    submit(pool, [r"\boxed{42}"])
    assert outcomes(pool) == ["correct"]
    assert pool.waiting_for() == [] and pool.restarts == 0


def test_a_slow_row_times_out_and_blocks_nobody(make_pool: MakePool) -> None:
    pool = make_pool(timeout_s=1.0)
    pool.worker_pids()
    submit(pool, ["sleep", *[r"\boxed{42}"] * 8])
    start = time.monotonic()
    assert outcomes(pool) == ["timeout", *["correct"] * 8]
    assert time.monotonic() - start < 2.4
    assert pool.restarts == 0


def test_a_row_that_kills_its_worker_is_found_and_its_neighbours_keep_their_verdicts(make_pool: MakePool) -> None:
    pool = make_pool()
    submit(pool, [r"\boxed{42}", "exit", *[r"\boxed{41}"] * 4])
    assert outcomes(pool) == ["correct", "killed", *["incorrect"] * 4]
    assert pool.restarts == 3  # together, together again, alone


def test_a_worker_killed_from_outside_costs_no_verdict(make_pool: MakePool) -> None:
    pool = make_pool(workers=2, timeout_s=20.0)
    pid = pool.worker_pids()[0]
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


def test_an_unknown_function_is_found_before_any_actor_starts() -> None:
    with pytest.raises(ConfigError, match="did you mean boxed_accuracy"):
        RewardPool(RewardsConfig(functions=(RewardFunctionConfig(name="boxed_accurasy"),)))
