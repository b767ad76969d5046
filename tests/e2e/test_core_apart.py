"""Engines whose cores are processes of their own, as they are on devices: what went wrong there reaches the pool."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from pangu_rl.errors import BrokenBroadcast, ConfigError
from rollout.pool import RolloutPool
from tests.e2e.test_rollout_vllm import Sender, spec_for
from tests.small_ray import small_ray

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def ray_session():
    with small_ray():
        yield


@pytest.fixture
def make_pool(tiny_model: Path):
    pools = []

    def make(**rollout: object) -> RolloutPool:
        spec = spec_for(tiny_model, **rollout)
        environment = {"env_vars": {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}}
        pools.append(RolloutPool(spec, lambda index: spec.accelerator.ray_options(1) | {"runtime_env": environment}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_one_that_does_not_start_says_why(make_pool) -> None:
    with pytest.raises(ConfigError, match=r"kv_cache_gib is 1e-05: too little .* 256"):
        make_pool(kv_cache_gib=1e-05).start()


def test_one_lives_on_when_a_broadcast_breaks(make_pool, tiny_model: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    pool = make_pool()
    pool.start()
    processes, broken = pool.processes(), Sender(weights, 1)
    manifest, _ = broken.publish(pool.members(), cut=True)
    with pytest.raises(BrokenBroadcast, match="are without weights version 1"):
        pool.sync(manifest)
    again = Sender(weights, 2)
    manifest, _ = again.publish(pool.members())
    pool.sync(manifest)
    assert (pool.weight_version, pool.processes(), pool.restarts) == (2, processes, 0)
    again.wait(), broken.wait()
