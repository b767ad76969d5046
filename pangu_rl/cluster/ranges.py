"""Work over the rows of a large corpus: ranges of rows -> **Ray Data, on the CPUs of the cluster** -> tables in order.

The same ranges worked one after another in this process give the same tables, so how many CPUs there are changes no
result. Ray Data keeps a bounded number of finished tables and waits for the reader when it is slow.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa

from pangu_rl import errors
from pangu_rl.accelerators import Accelerator
from pangu_rl.cluster.mapping import LOST
from pangu_rl.cluster.ray_runtime import Preemption, session
from pangu_rl.cluster.slow_result import told_when_slow
from pangu_rl.config.sections.trainer import ClusterConfig
from pangu_rl.errors import ConfigError, RunError, UserError

Work = Callable[[range], pa.Table]
"""Row numbers -> a table, with the same columns for every range."""
ROWS = 512
"""Of a range, where there are not so many that the ranges themselves would be a burden; where each row is much work,
such as a shard, a range has one."""
RANGES = 8192
RESTARTS = 2
"""Of a worker that died; Ray Data's own number has no end."""
THREADS = ("StreamingExecutor", "iter_threaded", "ray-data-metadata-prefetch")
"""Names of Ray Data's threads that ask Ray for something: they schedule, hand out blocks, and fetch their sizes."""
THREAD_WAIT = 60.0
"""Seconds for each of them to end."""
RESULT = pa.schema([("table", pa.large_binary()), ("kind", pa.string()), ("message", pa.string())])
"""What an actor says of a range: its table as an Arrow stream, or the class and the text of the user's error."""


def tables_of(
    make: Callable[[], Work],
    count: int,
    cluster: ClusterConfig,
    workers: int = 1,
    rows: int = ROWS,
    accelerator: Accelerator | None = None,
) -> Iterator[pa.Table]:
    """The tables of the ranges of `count` rows, in order; a range has `rows`, or more where there would be too many.

    One worker is this process; more are actors of `cluster`, each of which calls `make` once, on a CPU of its own. Of
    an `accelerator` with devices every worker is an actor with a device.

    Raises:
        UserError: what the work raised. ConfigError: fewer CPUs or devices than workers. RunError: a worker failed.
        Preempted: SIGTERM came.
    """
    ranges = ranges_of(count, rows)
    device = accelerator.ray_resource if accelerator else None
    if workers == 1 and device is None:
        work = make()
        yield from (work(some) for some in ranges)
        return
    with session(cluster) as preemption:
        options = accelerator.ray_options(1) if device else {"num_cpus": 1}
        yield from _on_ray(make, ranges, workers, options, device or "CPU", preemption)


def ranges_of(count: int, rows: int = ROWS) -> list[range]:
    """Consecutive ranges over `range(count)`."""
    rows = max(rows, -(-count // RANGES))
    return [range(start, min(start + rows, count)) for start in range(0, count, rows)]


def _on_ray(
    make: Callable[[], Work],
    ranges: list[range],
    workers: int,
    options: dict[str, Any],
    resource: str,
    preemption: Preemption,
) -> Iterator[pa.Table]:
    """`options` are Ray's of a worker, which takes one of `resource`."""
    import ray
    import ray.data

    if (there := int(ray.cluster_resources().get(resource, 0))) < workers:
        raise ConfigError(
            f"{workers} workers and {there} {resource}s in the cluster: ask for as many as there are, or fewer"
        )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    before, threads = (context.execution_options.preserve_order, context.enable_progress_bars), threading.enumerate()
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    try:
        shared = ray.put(make)  # held here: an actor that is started anew needs it again
        bounds = [{"start": some.start, "stop": some.stop} for some in ranges]
        # Of tables Ray Data would ask a task for their schema, and wait for its CPU where nobody hears SIGTERM.
        results = ray.data.from_items(bounds, override_num_blocks=len(bounds)).map_batches(
            _Worker,
            fn_constructor_args=([shared],),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(bounds))),
            **options,
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,
        )
        # Nothing ahead: the thread that fetches it never ends, and one that asks a stopped Ray ends the process.
        batches = results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        with closing(iter(batches)) as tables:
            while True:
                with told_when_slow(workers, resource), preemption.leaving_at_once(LOST):
                    block = next(tables, None)
                if block is None:
                    return
                yield from map(_opened, block.to_pylist())
    except ray.exceptions.RayError as error:
        raise RunError(f"a worker failed: {str(error).strip().splitlines()[0]}") from None
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = before
        _wait_for_threads(threads)


def _wait_for_threads(others: list[threading.Thread]) -> None:
    """Ray Data waits two seconds for some of its threads, for others not at all; Ray must not stop under one.

    `others` were there before: where one of them never ended, its own run has waited for it.
    """
    for thread in set(threading.enumerate()).difference(others):
        if thread.name.startswith(THREADS):
            thread.join(THREAD_WAIT)


class _Worker:
    """One actor of Ray Data. A range's result is one row, so that its table arrives as it was made, and so does a
    mistake of the user's, which Ray would wrap."""

    def __init__(self, handle: list[Any]) -> None:
        """`handle` holds a reference, in a list so that it arrives as one."""
        import ray

        self._make = ray.get(handle[0])
        self._work: Work | None = None

    def __call__(self, block: pa.Table) -> pa.Table:
        return pa.Table.from_pylist(
            [self._result(range(row["start"], row["stop"])) for row in block.to_pylist()], RESULT
        )

    def _result(self, rows: range) -> dict[str, Any]:
        try:
            self._work = self._work or self._make()
            table = self._work(rows)
        except UserError as error:
            return {"kind": type(error).__name__, "message": str(error)}
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return {"table": sink.getvalue().to_pybytes()}


def _opened(result: dict[str, Any]) -> pa.Table:
    if result["table"] is None:
        raise getattr(errors, result["kind"], UserError)(result["message"])
    return pa.ipc.open_stream(result["table"]).read_all()
