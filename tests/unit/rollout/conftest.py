"""One small Ray for all pool tests."""

import functools
from pathlib import Path

import pytest

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from rollout.engine import EngineSpec
from rollout.fake_engine import FakeEngine
from rollout.pool import RolloutPool
from tests.small_ray import small_ray


@pytest.fixture(scope="package")
def ray_session():
    with small_ray():
        yield


@pytest.fixture
def make_pool(ray_session):
    pools = []

    def make(factory=FakeEngine, *, slow: float = 0.0, **rollout) -> RolloutPool:
        config = RolloutConfig(engine="fake", **({"actors": 2, "silence_s": 20.0} | rollout))
        if slow:
            factory = functools.partial(factory, seconds=slow)
        spec = EngineSpec(
            model=ModelConfig(path="unused"),
            rollout=config,
            accelerator=get_accelerator("cpu"),
            model_path=Path("unused"),
            factory=factory,
        )
        pools.append(RolloutPool(spec))
        pools[-1].start()
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()
