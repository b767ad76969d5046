"""Real children that hang, eat memory and die: what they get is an outcome, and the next task never notices."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from rewards import children
from rewards.child_handles import child_environment
from rewards.children import ChildError, ChildKilled, ChildPool, ChildTimeout
from tests.contracts.source_tree import ROOT
from tests.unit.rewards import hostile_functions as hostile
from tests.unit.rewards.builders import eventually

DEADLINE_S = 1.0
SLACK_S = 2.0


@pytest.fixture(scope="module")
def pool() -> Iterator[ChildPool]:
    with ChildPool(2, deadline_s=DEADLINE_S, memory_mib=256, warm_up=hostile.nothing) as pool:
        pool.run(hostile.square, 1)
        yield pool


def assert_unharmed(pool: ChildPool) -> None:
    """The next good check is right, and as many children as before live."""
    assert pool.run(hostile.square, 7) == 49
    assert eventually(lambda: len(pool.pids()) == pool.size)
    assert all(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pool.pids())


@pytest.mark.parametrize(
    "function",
    [
        hostile.spin,
        hostile.power_in_c,
        hostile.digits_in_c,
        hostile.backtrack,
        hostile.ignore_signals_and_spin,
    ],
)
def test_a_task_past_its_deadline_is_killed(pool: ChildPool, function: Callable[[], Any]) -> None:
    task = pool.submit(function, deadline_s=0.5)
    with pytest.raises(ChildTimeout, match=r"not done within 0\.5 s"):
        task.future.result()
    assert 0.5 <= task.seconds <= 0.5 + SLACK_S
    assert_unharmed(pool)


@pytest.mark.parametrize(
    ("function", "args", "end"),
    [
        (hostile.allocate, (2000,), "went over its memory limit"),
        (hostile.allocate_slowly, (), "went over its memory limit"),
        (hostile.swallow_memory_error, (), "went over its memory limit"),
        (hostile.hold, (300, 0.0), "went over its memory limit"),
        (hostile.hold, (300, 20.0), "went over its memory limit"),
        (hostile.leave, (3,), "ended with exit code 3"),
        (hostile.segfault, (), "died of SIGSEGV"),
        (hostile.shoot_yourself, (), "died of SIGKILL"),
        (hostile.shoot_yourself_without_a_name, (), "died of signal 40"),
        (hostile.close_everything, (), "died of SIGKILL"),
    ],
)
def test_a_task_that_ends_its_child_is_tried_twice(
    pool: ChildPool, function: Callable[..., Any], args: tuple[Any, ...], end: str
) -> None:
    before = pool.replaced
    with pytest.raises(ChildKilled, match=f"the child {end}, the next one {end}"):
        pool.run(function, *args, deadline_s=30.0)
    assert pool.replaced == before + 2
    assert_unharmed(pool)


def test_memory_below_the_limit_is_granted(pool: ChildPool) -> None:
    assert pool.run(hostile.hold, 200, 0.2) == f"{200 << 20} held"


@pytest.mark.parametrize(
    ("function", "args", "kind", "text"),
    [
        (hostile.raise_error, ("two\nlines",), "KeyError", r"'two\\nlines'"),
        (hostile.raise_exit, (), "SystemExit", "3"),
        (hostile.recurse, (), "RecursionError", "maximum recursion depth"),
        (hostile.return_object, (), "TypeError", "object cannot leave a child"),
        (hostile.return_text, (2 << 20,), "ValueError", r"2\d{6} bytes, a child may send 1048576"),
        (hostile.square, ("x",), "TypeError", "can't multiply"),
    ],
)
def test_what_a_function_raises_keeps_its_name_and_its_child(
    pool: ChildPool, function: Callable[..., Any], args: tuple[Any, ...], kind: str, text: str
) -> None:
    before = pool.replaced
    with pytest.raises(ChildError, match=text) as caught:
        pool.run(function, *args)
    assert caught.value.kind == kind and "\n" not in str(caught.value)
    assert pool.replaced == before


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x04cos\nsystem\n",
        b"[]",
        b'{"result": ' + b"[" * 100_000,
        b'{"result": ' + b"7" * 10_000 + b"}",
        b'{"result": {"__part__": {"value": "1", "outcome": "correct"}}}',
        b'{"result": {"__part__": {"value": 1, "outcome": "excellent"}}}',
        b" " * (2 << 20),
    ],
    ids=["pickle", "no object", "deep", "long number", "text for a value", "unknown outcome", "too long"],
)
def test_a_reply_that_is_none_costs_its_child(pool: ChildPool, body: bytes) -> None:
    before = pool.replaced
    with pytest.raises(ChildError, match="BadReply"):
        pool.run(hostile.forge, body, deadline_s=20.0)
    assert pool.replaced == before + 1
    assert_unharmed(pool)


def test_what_nobody_has_foreseen_costs_one_task_and_no_keeper(
    pool: ChildPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: bytes) -> None:
        raise ZeroDivisionError("two\nlines")

    keepers = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(children, "decode_reply", broken)
        for _ in range(2 * pool.size):
            with pytest.raises(ChildKilled, match="the pool failed: ZeroDivisionError: two lines"):
                pool.submit(hostile.square, 7).future.result(timeout=20)
    assert threading.active_count() == keepers
    assert_unharmed(pool)


def test_a_warm_up_that_does_not_pickle_is_reported_by_the_task() -> None:
    with ChildPool(2, warm_up=lambda: None) as pool, pytest.raises(ChildError, match="lambda"):
        pool.submit(hostile.square, 7).future.result(timeout=20)


def test_parts_come_back_whole(pool: ChildPool) -> None:
    assert pool.run(hostile.part, 1.0, "correct") == hostile.part(1.0, "correct")
    assert pool.run(hostile.part, None, "timeout") == hostile.part(None, "timeout")
    assert pool.run(dict, [("a", [1, None, "\ud800"])]) == {"a": [1, None, "\ud800"]}


def test_a_death_from_outside_costs_no_result(pool: ChildPool, tmp_path: Path) -> None:
    task = pool.submit(hostile.die_once, str(tmp_path / "marker"))
    assert task.future.result() == "second time"
    assert task.ends == ["died of SIGKILL"]
    assert_unharmed(pool)


def test_a_child_that_others_kept_from_running_is_no_verdict_on_its_task(pool: ChildPool, tmp_path: Path) -> None:
    task = pool.submit(hostile.starve_once, str(tmp_path / "marker"))
    assert task.future.result() == "second time"
    assert_unharmed(pool)


def test_idle_children_that_are_killed_are_replaced(pool: ChildPool) -> None:
    assert_unharmed(pool)
    before = pool.pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: len(pool.pids()) == 2 and not set(pool.pids()) & set(before))
    assert_unharmed(pool)


def test_the_process_that_forks_is_replaced_too(pool: ChildPool) -> None:
    nursery = pool.run(hostile.parent_pid)
    task = pool.submit(hostile.nap, 0.5)
    assert eventually(lambda: task.handed_at > 0)
    os.kill(nursery, signal.SIGKILL)
    assert task.future.result(timeout=20) == "rested"
    assert pool.run(hostile.parent_pid) != nursery
    assert_unharmed(pool)


def test_what_a_task_started_dies_with_it(pool: ChildPool) -> None:
    grandchild = pool.run(hostile.start_grandchild)
    assert psutil.pid_exists(grandchild)
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not _alive(grandchild))
    assert_unharmed(pool)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


BATCH = [hostile.spin, hostile.power_in_c, hostile.backtrack, hostile.shoot_yourself, hostile.segfault, hostile.recurse]


def test_hostile_tasks_all_at_once(pool: ChildPool) -> None:
    """18 of them queue for two children: each within its deadline, the batch within a deadline per two of them."""
    resident = psutil.Process().memory_info().rss
    start = time.monotonic()
    tasks = [pool.submit(function) for function in BATCH * 3]
    for task in tasks:
        assert task.future.exception(timeout=60) is not None
    elapsed = time.monotonic() - start
    assert max(task.seconds for task in tasks) <= DEADLINE_S + SLACK_S
    assert elapsed <= math.ceil(len(tasks) / pool.size) * (DEADLINE_S + SLACK_S)
    assert psutil.Process().memory_info().rss - resident < 50 << 20
    assert_unharmed(pool)


def test_from_many_threads(pool: ChildPool) -> None:
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(lambda n: pool.run(hostile.square, n), range(500))) == [n * n for n in range(500)]


def test_asyncio_goes_on_while_a_child_hangs(pool: ChildPool) -> None:
    async def main() -> tuple[int, list[Any]]:
        hung = [asyncio.create_task(pool.arun(hostile.power_in_c, deadline_s=0.5)) for _ in range(2)]
        turns = 0
        while not any(task.done() for task in hung):
            await asyncio.sleep(0.005)
            turns += 1
        return turns, await asyncio.gather(*hung, pool.arun(hostile.square, 7), return_exceptions=True)

    turns, (one, two, square) = asyncio.run(main())
    assert turns > 5, "of a hundred; a loop that is held up makes one or two"
    assert isinstance(one, ChildTimeout) and isinstance(two, ChildTimeout) and square == 49


def test_cancelling_takes_back_what_waits_and_loses_no_child(pool: ChildPool, tmp_path: Path) -> None:
    async def main() -> None:
        running = [asyncio.create_task(pool.arun(hostile.nap, 0.5)) for _ in range(2)]
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(pool.arun(hostile.die_once, str(tmp_path / "ran")))
        await asyncio.sleep(0.1)
        for task in (*running, waiting):
            task.cancel()
        done = await asyncio.gather(*running, waiting, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in done)
        assert await pool.arun(hostile.square, 7) == 49

    before = pool.replaced
    asyncio.run(main())
    assert not (tmp_path / "ran").exists()
    assert pool.replaced == before
    assert_unharmed(pool)


def test_a_child_sees_no_secrets_no_terminal_and_one_thread(pool: ChildPool) -> None:
    assert pool.run(hostile.streams) == ["/dev/null"] * 3
    assert pool.run(hostile.ignores_sigint) is True
    assert pool.run(hostile.threads) == 1  # the process that forks; forking from more than one thread is not safe
    seen = pool.run(hostile.environment)
    assert seen["OMP_NUM_THREADS"] == "1" and seen["PATH"] == os.environ["PATH"]
    given = {"OPENAI_API_KEY": "x", "hf_token": "x", "DB_PASSWORD": "x", "LD_LIBRARY_PATH": "/lib", "HOME": "/home"}
    logins = {
        "DATABASE_URL": "postgres://me:canary@db:5432/runs",
        "REDIS_URL": "redis://:canary@cache",
        "HTTPS_PROXY": "http://me:can/ary?#@proxy:3128",
        "PIP_INDEX_URL": "https://canary@index/simple",
    }
    plain = {"HF_ENDPOINT": "https://hub:443/a?b=c", "MAILTO": "me@host", "NO_PROXY": "a,b"}
    kept = child_environment(given | logins | plain)
    assert {name for name in kept if name in given | logins | plain} == {"LD_LIBRARY_PATH", "HOME", *plain}


def test_the_callers_signals_are_left_alone(pool: ChildPool) -> None:
    numbers = (signal.SIGALRM, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    signal.setitimer(signal.ITIMER_REAL, 30.0)
    try:
        with pytest.raises(ChildTimeout):
            pool.run(hostile.spin, deadline_s=0.3)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 20.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_warm_up_that_fails_is_reported_by_the_task() -> None:
    with (
        ChildPool(2, warm_up=hostile.fail_to_warm_up) as pool,
        pytest.raises(ChildError, match="ImportError: no algebra here"),
    ):
        pool.run(hostile.square, 7)


def test_closing_ends_children_and_tasks() -> None:
    pool = ChildPool(1, warm_up=hostile.nothing)
    pids = [pool.run(hostile.pid), pool.run(hostile.parent_pid)]
    running, waiting = pool.submit(hostile.spin, deadline_s=60.0), pool.submit(hostile.square, 7)
    assert eventually(lambda: running.handed_at > 0)
    pool.close()
    for task in (running, waiting):
        with pytest.raises(ChildKilled, match="the pool was closed"):
            task.future.result(timeout=0)
    # Killed is not yet gone: on a busy machine the kernel takes its time.
    assert eventually(lambda: not any(_alive(pid) for pid in pids))
    with pytest.raises(RuntimeError, match="this pool is closed"):
        pool.run(hostile.square, 7)
    pool.close()


ORPHANS = """
import os, time
from rewards.children import ChildPool
from tests.unit.rewards import hostile_functions as hostile
from tests.unit.rewards.builders import eventually
pool = ChildPool(2, deadline_s=600.0, warm_up=hostile.nothing)
tasks = [pool.submit(hostile.power_in_c), pool.submit(hostile.spin)]
while not all(task.handed_at for task in tasks):
    time.sleep(0.01)
print(*pool.pids(), flush=True)
time.sleep(600)
"""


def test_children_die_with_their_parent_even_inside_c() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(_alive(pid) for pid in pids)
    pids.append(psutil.Process(pids[0]).ppid())
    parent.kill()
    parent.wait()
    assert eventually(lambda: not any(_alive(pid) for pid in pids))


FORKED = """
import os
from rewards.children import ChildPool
from tests.unit.rewards import hostile_functions as hostile
from tests.unit.rewards.builders import eventually
pool = ChildPool(1, warm_up=hostile.nothing)
print(pool.run(hostile.square, 7), flush=True)
pid = os.fork()
if pid == 0:
    try:
        pool.run(hostile.square, 7)
    except RuntimeError as error:
        print(error, flush=True)
    pool.close()
    os._exit(0)
os.waitpid(pid, 0)
print(pool.run(hostile.square, 8), flush=True)
"""


def test_a_pool_does_not_cross_a_fork() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:3] == [
        "49",
        "this pool was made before a fork: make another one in this process",
        "64",
    ], done.stderr
