"""The weighted sum, and what a failing function may never become: a silent 0."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.errors import RewardError
from pangu_rl.records import Completion, Outcome, Part, Prompt, Score
from rewards.audit import gold_problem
from rewards.children import ChildPool
from rewards.grader import Grader
from rewards.recipe import accuracy
from rewards.recipe.accuracy import boxed_accuracy
from rewards.recipe.format import boxed_format
from rewards.recipe.graded import graded
from rewards.rubric import Rubric, WeightedFunction, checked_part, no_verdict_problem
from tests.unit.rewards import hostile_functions as hostile
from tests.unit.rewards.builders import completion, prompt


def score(*functions: Callable[..., Any], timeout_s: float = 5.0, text: str = r"\boxed{42}") -> Score:
    rubric = Rubric([WeightedFunction(f"f{i}", 1.0, f) for i, f in enumerate(functions)], timeout_s)
    return asyncio.run(rubric.score(prompt("42"), completion(text)))


def raises(error: BaseException) -> Callable[..., Any]:
    def plugin(prompt: Any, completion: Any) -> float:
        raise error

    return plugin


def test_weighted_sum_with_every_part_kept() -> None:
    rubric = Rubric.from_config(RewardsConfig())
    right = asyncio.run(rubric.score(prompt("42"), completion(r"\boxed{42}")))
    wrong = asyncio.run(rubric.score(prompt("42"), completion(r"\boxed{41}")))
    assert (right.reward, wrong.reward) == (pytest.approx(1.1), pytest.approx(0.1))
    assert {name: part.value for name, part in wrong.parts.items()} == {"boxed_accuracy": 0.0, "boxed_format": 1.0}
    assert (right.outcome, wrong.outcome) == (Outcome.CORRECT, Outcome.INCORRECT)


def test_negative_weights_and_plain_numbers() -> None:
    functions = [
        WeightedFunction("a", 2.0, lambda p, c: 1),
        WeightedFunction("b", -0.5, lambda p, c: np.float32(0.5)),
        WeightedFunction("c", 1.0, lambda p, c: True),
    ]
    found = asyncio.run(Rubric(functions).score(prompt(), completion("")))
    assert found.reward == pytest.approx(2.0 - 0.25 + 1.0)
    assert [part.outcome for part in found.parts.values()] == ["correct", "incorrect", "correct"]


def test_a_sum_that_is_not_finite_is_refused() -> None:
    """1e200 times 1e200 is infinite; so are 1.5e308 and 1.5e308 together, and the one less the other would be none."""
    for weights, values in (((1e200,), (1e200,)), ((1.0, 1.0), (1.5e308, 1.5e308)), ((1e200, -1e200), (1e200, 1e200))):
        functions = [
            WeightedFunction(f"f{i}", weight, lambda p, c, value=value: value)
            for i, (weight, value) in enumerate(zip(weights, values, strict=True))
        ]
        with pytest.raises(
            RewardError, match=rf"reward function f{len(weights) - 1 if weights[0] == 1 else 0}: .* not"
        ):
            asyncio.run(Rubric(functions).score(prompt(), completion("")))


def test_async_functions_and_callables() -> None:
    async def plugin(prompt: Any, completion: Any) -> float:
        await asyncio.sleep(0)
        return 1.0

    class Plugin:
        async def __call__(self, prompt: Any, completion: Any) -> float:
            return 0.5

    assert score(plugin, Plugin(), lambda p, c: plugin(p, c)).reward == 2.5


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (raises(KeyError("colour")), "raised KeyError: 'colour'"),
        (raises(StopIteration()), r"raised RuntimeError: StopIteration\(\)"),
        (raises(SystemExit(3)), r"raised RuntimeError: SystemExit\(3\)"),
        (lambda p, c: float("nan"), "value nan .* must be finite"),
        (lambda p, c: float("inf"), "value inf .* must be finite"),
        (lambda p, c: None, "returned NoneType 'None': return a Part or a number"),
        (lambda p, c: "1.0", "returned str '1.0'"),
        (lambda p, c: [1.0, 2.0], "returned list"),
        (lambda p, c: Part(value=None, outcome=Outcome.INCORRECT), "value None with outcome incorrect"),
        (lambda p, c: Part(value=float("nan"), outcome=Outcome.CORRECT), "must be finite"),
        (lambda p, c: Part(value=0.0, outcome=Outcome.TIMEOUT), "value 0.0 with outcome timeout: it must be None"),
        (lambda p, c: 1 / 0, "ZeroDivisionError"),
        (lambda p: 1.0, "TypeError"),
    ],
)
def test_a_failing_plugin_is_named_with_its_sample(plugin: Callable[..., Any], message: str) -> None:
    with pytest.raises(RewardError, match=r"reward function f1, completion 0:p/0 .*" + message):
        score(boxed_accuracy, plugin)


@pytest.mark.parametrize("plugin", [raises(TimeoutError("judge is down")), lambda p, c: time.sleep(3)])
def test_a_timeout_is_no_verdict_and_never_zero(plugin: Callable[..., Any]) -> None:
    found = score(boxed_accuracy, plugin, timeout_s=0.3)
    assert found.reward is None
    assert found.outcome is Outcome.TIMEOUT
    assert found.parts["f0"].value == 1.0
    assert found.parts["f1"].detail in ("judge is down", "no answer within 0.3 s")


def test_a_blocking_plugin_does_not_hold_up_others() -> None:
    """Forty wait until the good one is graded; a pool of 32 threads would have none left for it."""
    graded = threading.Event()

    async def both() -> tuple[Score, list[Score]]:
        slow = Rubric([WeightedFunction("slow", 1.0, lambda p, c: float(graded.wait(20)))])
        quick = Rubric([WeightedFunction("quick", 1.0, boxed_accuracy)])
        blocked = [asyncio.create_task(slow.score(prompt(), completion(""))) for _ in range(40)]
        await asyncio.sleep(0.01)
        found = await quick.score(prompt(), completion(""))
        graded.set()
        return found, await asyncio.gather(*blocked)

    found, others = asyncio.run(both())
    assert found.outcome is Outcome.NO_BOX
    assert [other.reward for other in others] == [1.0] * 40, "none gave up before"


def test_innocent_rows_behind_hostile_ones_are_no_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve checks of 0.5 s and one good one queue for one child: about 6 s, where a score may take 2."""
    with ChildPool(1) as pool:
        grader = Grader(pool)
        monkeypatch.setattr(accuracy, "default_grader", lambda: grader)
        pool.run(hostile.square, 1)
        spinning = [pool.submit(hostile.spin, deadline_s=0.5) for _ in range(12)]
        bound = functools.partial(boxed_accuracy, deadline_s=20.0)
        rubric = Rubric([WeightedFunction("f", 1.0, bound)], timeout_s=2.0)
        found = asyncio.run(rubric.score(prompt("x^2 - 1", "math"), completion(r"\boxed{(x-1)(x+1)}")))
        assert found.outcome is Outcome.CORRECT, found.parts
        assert all(task.future.done() for task in spinning), "it did wait for them"


def test_a_function_without_a_deadline_of_its_own_has_the_rubrics() -> None:
    async def unmarked(prompt: Any, completion: Any) -> float:
        await asyncio.sleep(5.0)
        return 1.0

    assert score(unmarked, functools.partial(unmarked), timeout_s=0.2).outcome is Outcome.TIMEOUT


def test_share_without_verdict() -> None:
    def row(index: int, verdict: bool) -> Score:
        outcome = Outcome.CORRECT if verdict else Outcome.KILLED
        part = Part(value=1.0 if verdict else None, outcome=outcome, detail="" if verdict else f"judge {index} is down")
        return Score(completion_uid=f"0:p/{index}", reward=part.value, parts={"boxed_accuracy": part})

    scores = [row(index, verdict=index >= 2) for index in range(20)]
    assert no_verdict_problem(scores, 20, 0.10) is None
    problem = no_verdict_problem(scores, 20, 0.09)
    assert "2 of 20" in problem and "0:p/0 (boxed_accuracy: killed); 0:p/1" in problem and "0.09" in problem
    assert "The first: judge 0 is down. " in problem
    assert no_verdict_problem([], 0, 0.0) is None
    assert "and 1 more" in no_verdict_problem([row(i, False) for i in range(6)], 6, 0.5)


def test_gold_audit() -> None:
    async def async_accuracy(prompt: Any, completion: Any) -> Part:
        return await boxed_accuracy(prompt, completion)

    assert gold_problem(prompt("1,234", "integer"), boxed_accuracy) is None
    assert gold_problem(prompt("1,234", "integer"), async_accuracy) is None
    assert gold_problem(prompt("x^2 - 1", "math"), boxed_accuracy) is None
    assert gold_problem(prompt("2^{10}-1", "math"), boxed_accuracy) is None
    assert gold_problem(prompt("She sold 48+24 = 72 clips.\n#### 72"), boxed_accuracy) is None
    assert "is a JSON object" in gold_problem(prompt('{"target": ["Paris"]}'), boxed_accuracy)
    assert "the gold '1.5' cannot be graded: gold '1.5' is no whole" in gold_problem(
        prompt("1.5", "integer"), boxed_accuracy
    )
    assert gold_problem(prompt("[10,10,50,50]", "point"), boxed_accuracy) is None, "its gold is a box around the point"
    assert "without area" in gold_problem(prompt("[50,50,10,10]", "point"), boxed_accuracy)
    assert "no_box" in gold_problem(prompt("a { b", "text"), boxed_accuracy)
    assert "cannot be graded: answer_type 'colour' is unknown" in gold_problem(prompt("1", "colour"), boxed_accuracy)
    assert "the gold '1' cannot be graded: TimeoutError: no" in gold_problem(prompt("1"), raises(TimeoutError("no")))


def test_rules_import_without_heavy_libraries() -> None:
    import subprocess

    code = "import rewards.rubric, rewards.audit, sys; print([m for m in ('ray', 'torch', 'vllm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_configured_weights_reach_the_sum() -> None:
    config = RewardsConfig(functions=(RewardFunctionConfig(name="boxed_format", weight=0.25),))
    found = asyncio.run(Rubric.from_config(config).score(prompt(), completion(r"\boxed{1}")))
    assert found.reward == 0.25


def test_numbers_of_other_libraries_are_numbers() -> None:
    """As Python's True is 1.0: numpy's truth, and arrays and tensors of one element."""
    for value in (np.bool_(True), np.float32(1.0), np.array(1.0), torch.tensor(1.0), torch.tensor(True)):
        assert checked_part(value, "it").value == 1.0
        assert checked_part(Part(value=value, outcome=Outcome.CORRECT), "it").value == 1.0
    for bad in (np.ones(2), torch.ones(1)):
        with pytest.raises(RewardError, match="return a Part or a number"):
            checked_part(bad, "it")


def test_an_outcome_may_be_spelled_and_must_be_one() -> None:
    assert (
        checked_part(Part(value=1.0, outcome=Outcome.CORRECT, detail="\ud800 \U0001f600"), "it").detail
        == "\\ud800 \U0001f600"
    )
    for detail in (None, b"x", 3):
        with pytest.raises(RewardError, match=r"it returned a Part with detail .* use text"):
            checked_part(Part(value=1.0, outcome=Outcome.CORRECT, detail=detail), "it")  # type: ignore[arg-type]
    assert checked_part(Part(value=1.0, outcome="correct"), "it").outcome is Outcome.CORRECT  # type: ignore[arg-type]
    with pytest.raises(RewardError, match="outcome 'fine': use one of correct, incorrect"):
        checked_part(Part(value=1.0, outcome="fine"), "it")  # type: ignore[arg-type]
    for endless in (10**400, Part(value=10**400, outcome=Outcome.CORRECT)):
        with pytest.raises(RewardError, match="must be finite"):
            checked_part(endless, "it")


def test_the_audit_names_the_function_that_fails_and_blames_no_row() -> None:
    def broken(prompt: Prompt, completion: Completion) -> float:
        raise KeyError("level")

    with pytest.raises(RewardError, match=r"reward function broken raised KeyError: 'level' on the gold '7'"):
        gold_problem(prompt("7", "integer"), broken)


def test_an_answer_that_the_prompt_opened_is_not_yet_given() -> None:
    """The prompt ends with `<think>`: what stands before its end is thought, boxed or not."""
    thinking = dataclasses.replace(prompt("4", "integer"), opened="<think>")
    text = "I try 2+2, \\boxed{4}, but wait"
    for function in (boxed_format, graded, boxed_accuracy):
        for answer, outcome in ((text, Outcome.NO_BOX), (f"{text}</think>\\boxed{{4}}", Outcome.CORRECT)):
            part = function(thinking, completion(answer))
            part = asyncio.run(part) if inspect.isawaitable(part) else part
            assert part.outcome is outcome, (function, answer, part)
    assert gold_problem(thinking, boxed_accuracy) is None
