"""One small Ray for the tests that need one; whoever started it ends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def small_ray(devices: int = 0) -> Iterator[None]:
    """`devices` are made up, as Ray's GPUs."""
    started = not ray.is_initialized()
    if started:
        sizes = {"num_cpus": 2, "num_gpus": devices, "object_store_memory": 80 * 2**20}
        ray.init(address="local", include_dashboard=False, **sizes)
    yield
    if started:
        ray.shutdown()
