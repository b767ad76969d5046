"""The grader over real children: every path to a verdict, what is no verdict, and hostile text from everywhere."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

import rewards
from pangu_rl.records import Outcome
from rewards import grader as grader_module
from rewards.children import ChildPool, ChildTimeout, Task
from rewards.grader import Checked, Grader
from rewards.rules.gold import Gold
from rewards.warm_up import warm_algebra
from tests.contracts.source_tree import ROOT
from tests.unit.rewards import hostile_functions as hostile
from tests.unit.rewards.builders import eventually
from tests.unit.rewards.cases import hostile_cases

DEADLINE_S = 2.0
SLACK_S = 2.0
ENDLESS_S = 1.0
FACTORED, EXPANDED = "(x-1)(x+1)", "x^2 - 1"


class CountingPool(ChildPool):
    """Counts the tasks it is given."""

    tasks = 0

    def submit(self, function: Callable[..., Any], *args: Any, deadline_s: float | None = None) -> Task:
        self.tasks += 1
        return super().submit(function, *args, deadline_s=deadline_s)


@pytest.fixture(scope="module")
def pool() -> Iterator[CountingPool]:
    with CountingPool(2, deadline_s=DEADLINE_S) as pool:
        yield pool


@pytest.fixture
def grader(pool: CountingPool) -> Grader:
    """With nothing remembered."""
    return Grader(pool)


def boxed(answer: str) -> str:
    return rf"so the answer is \boxed{{{answer}}}."


@pytest.mark.parametrize(
    ("prediction", "gold", "outcome", "tasks"),
    [
        ("no box here", Gold("42"), Outcome.NO_BOX, 0),
        (r"<think>\boxed{42}", Gold("42"), Outcome.NO_BOX, 0),
        (boxed("42"), Gold("42"), Outcome.CORRECT, 0),
        (boxed("41"), Gold("42"), Outcome.INCORRECT, 0),
        (boxed("B"), Gold("B", "choice"), Outcome.CORRECT, 0),
        (boxed(FACTORED), Gold(EXPANDED, "math"), Outcome.CORRECT, 1),
        (boxed("(x-1)(x+2)"), Gold(EXPANDED, "math"), Outcome.INCORRECT, 1),
        (boxed("1"), Gold("", "integer"), Outcome.ERROR, 0),
        (boxed("1"), Gold("1", "colour"), Outcome.ERROR, 0),
    ],
)
def test_paths(pool: CountingPool, grader: Grader, prediction: str, gold: Gold, outcome: Outcome, tasks: int) -> None:
    before = pool.tasks
    part = grader.grade(prediction, gold)
    assert part.outcome is outcome, part.detail
    assert part.value == (float(outcome is Outcome.CORRECT) if outcome.is_verdict else None)
    assert asyncio.run(grader.agrade(prediction, gold)) == part
    assert pool.tasks - before == tasks  # the second one was remembered


def test_no_pool_starts_before_algebra_is_needed() -> None:
    with ChildPool(1, warm_up=hostile.fail_to_warm_up) as pool:
        grader = Grader(pool)
        assert grader.grade(boxed("0.5"), Gold("1/2")).outcome is Outcome.CORRECT
        assert pool.pids() == []
        part = grader.grade(boxed(FACTORED), Gold(EXPANDED, "math"))
    assert (part.value, part.outcome, part.detail) == (None, Outcome.ERROR, "ImportError: no algebra here")


def warm_up_with_a_broken_parser() -> None:
    from latex2sympy2_extended import latex2sympy2

    def latex2sympy(*_: object, **__: object) -> None:
        raise ImportError("no antlr here")

    latex2sympy2.latex2sympy = latex2sympy
    warm_algebra()


def test_a_parser_that_reads_nothing_is_no_verdict_and_not_unparsable() -> None:
    with ChildPool(1, warm_up=warm_up_with_a_broken_parser) as pool:
        part = Grader(pool).grade(boxed(FACTORED), Gold(EXPANDED, "math"))
    assert (part.value, part.outcome) == (None, Outcome.ERROR)
    assert part.detail.startswith("RuntimeError: computer algebra does not work here: ")
    assert "\n" not in part.detail


def test_a_timeout_is_no_verdict_and_is_not_remembered(grader: Grader) -> None:
    gold = Gold(EXPANDED, "math")
    late = grader.grade(boxed("(1+x)(x-1)"), gold, deadline_s=1e-6)
    assert (late.value, late.outcome) == (None, Outcome.TIMEOUT)
    assert grader.grade(boxed("(1+x)(x-1)"), gold).outcome is Outcome.CORRECT


def test_a_death_is_no_verdict() -> None:
    with ChildPool(1, memory_mib=0) as pool:
        part = Grader(pool).grade(boxed(FACTORED), Gold(EXPANDED, "math"), deadline_s=20.0)
    assert (part.value, part.outcome) == (None, Outcome.KILLED), part.detail


def test_equal_pairs_are_graded_once_from_threads_and_from_asyncio(pool: CountingPool, grader: Grader) -> None:
    gold = Gold("x^2 - 4", "math")
    before = pool.tasks
    with ThreadPoolExecutor(16) as threads:
        parts = list(threads.map(lambda _: grader.grade(boxed("(x-2)(x+2)"), gold), range(64)))

    async def group() -> list[Any]:
        return await asyncio.gather(*(grader.agrade(boxed("(x+2)(x-2)"), gold) for _ in range(64)))

    parts += asyncio.run(group())
    assert {part.outcome for part in parts} == {Outcome.CORRECT}
    assert pool.tasks - before == 2
    assert grader.grade(boxed("(x+2)(x-2)"), Gold("x^2 - 9", "math")).outcome is Outcome.INCORRECT


def test_cancelling_one_waiter_leaves_the_others_their_verdict(grader: Grader) -> None:
    async def main() -> Outcome:
        first, second = [
            asyncio.create_task(grader.agrade(boxed("(x-5)(x+5)"), Gold("x^2 - 25", "math"))) for _ in range(2)
        ]
        await asyncio.sleep(0)
        first.cancel()
        return (await second).outcome

    assert asyncio.run(main()) is Outcome.CORRECT


def test_what_is_remembered_is_bounded(grader: Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grader_module, "REMEMBERED", 10)
    for number in range(100):
        grader.grade(boxed(str(number)), Gold("7", "integer"))
    grader.grade(boxed("x" * 100_000), Gold("7", "text"))
    assert [answer for answer, _ in grader._verdicts] == [str(number) for number in range(90, 100)]


def check_all_at_once(grader: Grader, pairs: list[tuple[str, Gold]]) -> list[Checked]:
    async def together() -> list[Checked]:
        return await asyncio.gather(*(grader.acheck(*pair) for pair in pairs))

    return asyncio.run(together())


def test_hostile_rows_all_at_once(pool: CountingPool, grader: Grader) -> None:
    """The guard settles nearly all rows, so tasks that never end occupy the children that the others wait for."""
    cases = hostile_cases()
    assert len(cases) >= 20
    algebra = many_pairs(10)
    grader.grade(boxed(FACTORED), Gold(EXPANDED, "math"))  # the children are warm
    resident = psutil.Process().memory_info().rss
    replaced, tasks = pool.replaced, pool.tasks
    start = time.monotonic()
    endless = [
        pool.submit(function, deadline_s=ENDLESS_S)
        for function in (hostile.spin, hostile.backtrack, hostile.ignore_signals_and_spin, hostile.spin)
    ]
    pairs = [(case.prediction, case.gold) for case in cases] + [pair[:2] for pair in algebra]
    found = check_all_at_once(grader, pairs)
    elapsed = time.monotonic() - start
    assert all(isinstance(task.future.exception(), ChildTimeout) for task in endless)
    assert pool.replaced - replaced >= len(endless)
    assert pool.tasks - tasks >= len(endless) + len(algebra)
    turns = math.ceil(len(endless) / pool.size)
    assert turns * ENDLESS_S <= elapsed <= 2 * turns * (ENDLESS_S + SLACK_S) + DEADLINE_S  # a starved one has two tries
    assert max(checked.seconds for checked in found) <= DEADLINE_S + SLACK_S
    assert [checked.part.value for checked in found[len(cases) :]] == [float(right) for *_, right in algebra]
    wrong = [case.id for case, checked in zip(cases, found) if (checked.part.value == 1.0) is not case.expected]
    assert wrong == []
    assert psutil.Process().memory_info().rss - resident < 50 << 20
    assert grader.grade(boxed("(x-3)(x+3)"), Gold("x^2 - 9", "math")).outcome is Outcome.CORRECT
    assert eventually(lambda: len(pool.pids()) == pool.size)


def many_pairs(count: int) -> list[tuple[str, Gold, bool]]:
    """Distinct pairs that need algebra, right and wrong in turn: (x-n)(x+n) = x^2 - n^2."""
    return [(boxed(f"(x-{n})(x+{n + n % 2})"), Gold(f"x^2 - {n * n}", "math"), n % 2 == 0) for n in range(2, count + 2)]


def grade_under_fire(grader: Grader, pool: ChildPool, gradings: int, kills: int) -> list[str]:
    """Grade from four threads while children are killed, evenly spread; the predictions whose verdict is wrong."""
    random_source = random.Random(0)
    pairs = many_pairs(gradings)
    done = 0
    lock = threading.Lock()

    def grade_one(pair: tuple[str, Gold, bool]) -> str | None:
        nonlocal done
        prediction, gold, right = pair
        part = grader.grade(prediction, gold)
        with lock:
            done += 1
            if done % (gradings // kills) == 0 and (pids := pool.pids()):
                os.kill(random_source.choice(pids), signal.SIGKILL)
        return None if part.value == float(right) else f"{prediction}: {part}"

    with ThreadPoolExecutor(4) as threads:
        return [line for line in threads.map(grade_one, pairs) if line is not None]


@pytest.mark.parametrize(("gradings", "kills"), [(200, 5), pytest.param(2000, 20, marks=pytest.mark.slow)])
def test_killing_children_changes_no_verdict(pool: CountingPool, grader: Grader, gradings: int, kills: int) -> None:
    replaced = pool.replaced
    assert grade_under_fire(grader, pool, gradings, kills) == []
    assert eventually(lambda: pool.replaced - replaced == kills and len(pool.pids()) == pool.size)


def test_from_the_command_line_alone() -> None:
    code = (
        r"from rewards import grade; "
        r"print(grade('so \\boxed{0.5}', '1/2').outcome, grade('\\boxed{(x-1)(x+1)}', 'x^2-1').outcome)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "correct correct\n", done.stderr
    assert done.stderr == ""


def test_the_grader_loads_no_heavy_library() -> None:
    code = (
        "import sys; from rewards import grade; grade('\\\\boxed{1}', '1')\n"
        "print([name for name in ('ray', 'torch', 'vllm', 'sympy', 'math_verify') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


AFTER_FORK = r"""
import os
from rewards import grade
print(grade('\\boxed{(x-1)(x+1)}', 'x^2-1').outcome, flush=True)
pid = os.fork()
print(grade('\\boxed{(x-2)(x+2)}', 'x^2-4').outcome, flush=True)
if pid:
    os.waitpid(pid, 0)
"""


def test_a_forked_process_makes_a_grader_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", AFTER_FORK], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "correct\n" * 3, done.stderr


def test_only_what_is_exported_is_there() -> None:
    assert rewards.Gold is Gold and rewards.Grader is Grader
    with pytest.raises(AttributeError, match="has no attribute 'grad'"):
        rewards.grad  # noqa: B018
