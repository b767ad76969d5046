"""`map` over the CPUs of the cluster: calls -> **Ray tasks, a bounded number at a time** -> results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pangu_rl.cluster.ray_runtime import Preemption, session
from pangu_rl.cluster.slow_result import told_when_slow
from pangu_rl.config.sections.trainer import ClusterConfig
from pangu_rl.errors import ConfigError, RunError, UserError, first_line

AHEAD = 2
"""Calls that are under way for each worker."""
POLL_S = 1.0
"""Between two questions whether to stop."""
LOST = "what was worked so far is not kept; the same command begins anew"


@contextmanager
def cluster_map(cluster: ClusterConfig, workers: int | None = None) -> Iterator[Callable[..., Iterator[Any]]]:
    """What `Executor.map` is of processes, on `workers` CPUs of the cluster, by default all: each call is a task.

    Raises:
        ConfigError: fewer CPUs than workers; as `session`. UserError: what a call raised. RunError: a task failed.
        Preempted: SIGTERM came.
    """
    import ray

    with session(cluster) as preemption:
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < (wanted := workers or there):
            raise ConfigError(f"{wanted} workers and {there} CPUs in the cluster: ask for as many as there are")
        yield lambda call, *columns: _mapped(call, columns, wanted, preemption)


def _mapped(
    call: Callable[..., Any], columns: Iterable[Iterable[Any]], workers: int, preemption: Preemption
) -> Iterator[Any]:
    import ray

    remote = ray.remote(num_cpus=1)(result_or_complaint)
    shared = ray.put(call)
    waiting: deque[ray.ObjectRef] = deque()
    arguments = zip(*columns, strict=False)
    while True:
        while len(waiting) < AHEAD * workers and (own := next(arguments, None)) is not None:
            waiting.append(remote.remote(shared, *own))
        if not waiting:
            return
        call = waiting.popleft()
        with told_when_slow(workers, "CPU"):
            while not ray.wait([call], timeout=POLL_S)[0]:
                if preemption.requested:
                    raise preemption.preempted(LOST)
        try:
            result = ray.get(call)
        except ray.exceptions.RayError as error:
            raise RunError(f"a worker failed: {first_line(error)}") from None
        if isinstance(result, UserError):
            raise result
        if preemption.requested:
            raise preemption.preempted(LOST)
        yield result


def result_or_complaint(call: Callable[..., Any], *arguments: Any) -> Any:
    """In a task: the result, or the user's mistake, which Ray would wrap."""
    try:
        return call(*arguments)
    except UserError as error:
        return error
