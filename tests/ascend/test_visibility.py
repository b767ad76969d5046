"""Part e: with Ray's books of NPUs that are only counted, every actor gets a device of its own, in both modes.

Ray either narrows ASCEND_RT_VISIBLE_DEVICES to the devices of an actor, or leaves it alone where its NOSET variable is
set. An engine must then see its own devices alone, a rank take the right index, whichever it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import pytest
import ray

from pangu_rl.accelerators import get_accelerator
from rollout.actor import see_own_devices

NPU = get_accelerator("npu")
DEVICES = 4


@pytest.fixture(scope="module", autouse=True)
def runtime() -> Iterator[None]:
    assert not ray.is_initialized(), "the tests before this one left their Ray"
    ray.init(
        address="local",
        num_cpus=1,
        resources={"NPU": DEVICES},
        include_dashboard=False,
        object_store_memory=80 << 20,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


class Engine:
    """Narrows itself as the engines' actors do, and says which devices CANN would show it."""

    def start(self) -> list[str]:
        see_own_devices(NPU)
        return os.environ.get(NPU.visible_env, ",".join(map(str, range(DEVICES)))).split(",")


class Rank:
    """Says which device its index means."""

    def start(self) -> str:
        ids = ray.get_runtime_context().get_accelerator_ids()[NPU.ray_resource]
        visible = os.environ.get(NPU.visible_env, ",".join(map(str, range(DEVICES)))).split(",")
        return visible[NPU.local_index(ids, os.environ)]


def started(kind: type, count: int, devices: int, env: Mapping[str, str]) -> list[Any]:
    options = {**NPU.ray_options(devices), "runtime_env": {"env_vars": dict(env)}}
    actors = [ray.remote(kind).options(**options).remote() for _ in range(count)]
    try:
        return ray.get([actor.start.remote() for actor in actors], timeout=120)
    finally:
        for actor in actors:
            ray.kill(actor)


@pytest.mark.parametrize("noset", ["0", "1"])
def test_every_engine_has_devices_of_its_own(noset: str) -> None:
    seen = started(Engine, 2, 2, {NPU.noset_env: noset})
    assert sorted(chain.from_iterable(seen)) == ["0", "1", "2", "3"]
    assert [len(own) for own in seen] == [2, 2]


@pytest.mark.parametrize("noset", ["0", "1"])
def test_every_rank_takes_a_device_of_its_own(noset: str) -> None:
    assert sorted(started(Rank, DEVICES, 1, {NPU.noset_env: noset})) == ["0", "1", "2", "3"]


class Forgetful(Engine):
    def start(self) -> list[str]:
        return os.environ.get(NPU.visible_env, ",".join(map(str, range(DEVICES)))).split(",")


def test_a_planted_mistake_is_caught() -> None:
    """An engine that leaves its visible devices to Ray sees all of them where Ray leaves them alone."""
    assert started(Forgetful, 2, 2, {NPU.noset_env: "1"}) == [["0", "1", "2", "3"]] * 2
