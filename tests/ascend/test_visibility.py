"""Part e: with Ray's books of NPUs that are only counted, every actor gets a device of its own, in both modes.

Ray either narrows ASCEND_RT_VISIBLE_DEVICES to the devices of an actor, or leaves it alone where its NOSET variable is
set. An engine must then see its own devices alone, a rank take the right index, whichever it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import ray

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from rollout.actors.actor import CONCURRENCY, RolloutActor
from rollout.engine import EngineSpec

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


def visible() -> list[str]:
    """The devices that CANN would show this process."""
    return os.environ.get(NPU.visible_env, ",".join(map(str, range(DEVICES)))).split(",")


class Seeing:
    """In the place of an engine: what one would see that is built now."""

    def __init__(self, spec: EngineSpec) -> None:
        self.seen = visible()


SPEC = EngineSpec(
    model=ModelConfig(path="none"), rollout=RolloutConfig(), accelerator=NPU, model_path=Path("none"), factory=Seeing
)


class Engine(RolloutActor):
    def __init__(self) -> None:
        super().__init__(SPEC)

    def start(self) -> list[str]:
        super().start()
        return self._engine.seen


class Rank:
    """Says which device its index means."""

    def start(self) -> str:
        ids = ray.get_runtime_context().get_accelerator_ids()[NPU.ray_resource]
        return visible()[NPU.local_index(ids, os.environ)]


def started(kind: type, count: int, devices: int, env: Mapping[str, str]) -> list[Any]:
    options = {**NPU.ray_options(devices), "runtime_env": {"env_vars": dict(env)}}
    remote = ray.remote(concurrency_groups=CONCURRENCY)(kind)
    actors = [remote.options(**options).remote() for _ in range(count)]
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


class Forgetful:
    def start(self) -> list[str]:
        return visible()


def test_a_planted_mistake_is_caught() -> None:
    """An engine that leaves its visible devices to Ray sees all of them where Ray leaves them alone."""
    assert started(Forgetful, 2, 2, {NPU.noset_env: "1"}) == [["0", "1", "2", "3"]] * 2
