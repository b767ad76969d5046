"""One small Ray for the tests that need one; whoever started it ends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def small_ray() -> Iterator[None]:
    started = not ray.is_initialized()
    if started:
        ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20)
    yield
    if started:
        ray.shutdown()
