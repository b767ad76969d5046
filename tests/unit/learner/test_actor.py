"""Two ranks as Ray actors: they meet, step together, and agree; a bad model arrives as its own error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.data.packs.batching import split_ranks
from pangu_rl.errors import DataError
from pangu_rl.learner.actor import create_learners
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.loops.actors.learners import Learners
from tests.unit.learner.builders import save_llama, tree_pack

PACKS = [tree_pack([(6, [9, 4]), (11, [5])]), tree_pack([(5, [8, 3])], seed=1, first_sequence=3)]


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    started = not ray.is_initialized()
    if started:
        ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20)
    yield
    if started:
        ray.shutdown()


def spec(path: Path) -> LearnerSpec:
    return LearnerSpec(
        model=ModelConfig(path=str(path)),
        learner=LearnerConfig(ranks=2, cpu_threads=1, optimizer=OptimizerConfig(lr=1e-3)),
        objective="grpo",
        algorithm=GrpoAlgorithmConfig(),
        total_steps=4,
        world_size=2,
    )


@pytest.mark.slow
def test_two_ranks_step_together(tmp_path: Path) -> None:
    actors = create_learners(spec(save_llama(tmp_path)))
    try:
        host, port = ray.get(actors[0].address.remote())
        ray.get([actor.start.remote(host, port) for actor in actors])
        batches = split_ranks(PACKS, 2, sum(len(pack.targets) for pack in PACKS), 5)
        first, second = ray.get([a.update.remote([b]) for a, b in zip(actors, batches)])
        assert first == second
        assert first[0]["grad_norm"] > 0
        before, again = ray.get([a.log_probs.remote(PACKS) for a in actors])
        assert all((a == b).all() for a, b in zip(before, again))
        manifests = ray.get([a.publish.remote(1) for a in actors])
        assert len(manifests[0].tensors) == 20
        assert manifests[1] is None
        assert Path(manifests[0].location).exists()
        ray.get([a.close.remote() for a in actors])
        assert not Path(manifests[0].location).exists()
    finally:
        for actor in actors:
            ray.kill(actor)


def test_a_bad_model_arrives_as_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        Learners(replace(spec(tmp_path / "missing"), world_size=1), silence_s=60)
