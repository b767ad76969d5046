"""One small Ray for the tests that need one; whoever started it ends it. And what may come between it and a test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from pangu_rl.cluster import slow_result


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


@contextmanager
def all_taken(resource: str, count: int) -> Iterator[None]:
    """Another job has them."""
    group = placement_group([{resource: count}])
    assert group.wait(120)
    try:
        yield
    finally:
        remove_placement_group(group)


@contextmanager
def sigterm_when_told() -> Iterator[None]:
    """To this process, as soon as a slow result has been spoken of; nothing but the handler of that time hears it."""
    before, tell = signal.signal(signal.SIGTERM, signal.SIG_IGN), slow_result._tell

    def tell_and_end(*words: object) -> None:
        tell(*words)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slow_result, "TOLD_S", 0.2)
        patch.setattr(slow_result, "_tell", tell_and_end)
        yield
    signal.signal(signal.SIGTERM, before)
