"""Engines of scorers: one that does not come up ends with a line, and does not hang."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.load import dump_config
from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.config.sections.scorers import CanaryConfig, ScorerConfig, ScorerEngineConfig, ScorersConfig
from pangu_rl.errors import ConfigError
from pangu_rl.loops.actors import scorer_engine
from pangu_rl.loops.actors.scorer_engine import scorer_engines


@pytest.fixture
def runtime() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


def test_an_engine_that_does_not_come_up_is_refused_with_its_model(
    runtime: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer_engine, "START_LIMIT_S", 1.0)
    judge = ScorerConfig(name="judge", model=str(tmp_path), engine=ScorerEngineConfig(devices=2))
    path = tmp_path / "scorers.yaml"
    path.write_text(
        dump_config(ScorersConfig(scorers=(judge,), cache=str(tmp_path / "c"), canaries=CanaryConfig(share=0.0)))
    )
    rewards = RewardsConfig(functions=(RewardFunctionConfig(name="llm_score", args={"config": str(path)}),))
    nowhere = replace(get_accelerator("cpu"), ray_resource="NPU")
    with (
        pytest.raises(
            ConfigError, match=r"judge: its engine was not up within 1 s on .*: set its engine\.eager, or serve"
        ),
        scorer_engines(rewards, nowhere),
    ):
        raise AssertionError("an engine without a place")
