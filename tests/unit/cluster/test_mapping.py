"""`map` over Ray: results in order, few calls at a time, the user's mistakes as they are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from pangu_rl.cluster.mapping import AHEAD, LOST, cluster_map
from pangu_rl.config.sections.trainer import ClusterConfig
from pangu_rl.errors import ConfigError, DataError, Preempted, RunError
from tests.small_ray import all_taken, sigterm_when_told, small_ray

CLUSTER = ClusterConfig()


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    with small_ray():
        yield


def square(number: int, shift: int = 0) -> tuple[int, int]:
    """The first call takes longest, so that results end out of order."""
    time.sleep(0.5 if number == 0 else 0.0)
    if number == 13:
        raise DataError("row 13: no")
    if number == 14:
        os._exit(1)
    return number**2 + shift, os.getpid()


def test_results_come_in_order_from_other_processes(small: None) -> None:
    with cluster_map(CLUSTER, 2) as run:
        found = list(run(square, range(9), range(100, 109)))
    assert [value for value, _ in found] == [n**2 + 100 + n for n in range(9)]
    assert os.getpid() not in {pid for _, pid in found}


def test_no_more_calls_are_made_than_are_taken(small: None) -> None:
    asked: list[int] = []
    with cluster_map(CLUSTER, 1) as run:
        results = run(square, (asked.append(n) or n for n in range(50)))
        next(results)
        assert len(asked) == AHEAD
        next(results)
        assert len(asked) == AHEAD + 1


def test_mistakes_and_deaths_are_one_line(small: None) -> None:
    with cluster_map(CLUSTER, 2) as run:
        with pytest.raises(DataError, match=r"^row 13: no$"):
            list(run(square, [1, 13, 2]))
        with pytest.raises(RunError, match="a worker failed: "):
            list(run(square, [14]))
    with pytest.raises(ConfigError, match="64 workers and 2 CPUs in the cluster"), cluster_map(CLUSTER, 64):
        pass


def test_cpus_that_another_job_holds_are_waited_for_with_a_word_until_sigterm(
    small: None, caplog: pytest.LogCaptureFixture
) -> None:
    preempted = pytest.raises(Preempted, match=f"^SIGTERM: {LOST}$")
    with all_taken("CPU", 2), sigterm_when_told(), cluster_map(CLUSTER, 2) as run, preempted:
        next(run(square, [1]))
    [told] = [line for line in caplog.messages if line.startswith("no result")]
    assert "from 2 workers, each on one CPU: of the cluster's 2 0 are free" in told
