"""A gradient that is not finite on one rank, in one micro-batch: all ranks skip the step together, and end together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import RunError
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch, Pack
from tests.gloo_ranks import on_ranks
from tests.unit.learner.builders import save_llama, tree_pack

PACKS = tuple(tree_pack([(5 + n, [8, 3])], seed=n, first_sequence=2 * n) for n in range(4))
"""Two for each rank."""
BAD_RANK = 1


def poisoned(pack: Pack, value: float) -> Pack:
    column = pack.columns["advantages"]
    return replace(pack, columns=pack.columns | {"advantages": np.full_like(column, value)})


def learner_of(path: Path, stage: int, rank: int, ranks: int):
    from pangu_rl.learner.learner import Learner

    return Learner(
        LearnerSpec(
            model=ModelConfig(path=str(path), dtype="float32"),
            learner=LearnerConfig(zero_stage=stage, optimizer=OptimizerConfig(lr=1e-3), ranks=ranks, nonfinite_limit=1),
            objective="grpo",
            algorithm=GrpoAlgorithmConfig(),
            total_steps=10,
            rank=rank,
            world_size=ranks,
        )
    )


def step(learner, value: float | None = None) -> float:
    """Whether this rank has skipped it; `value` poisons the second micro-batch of the bad rank alone."""
    rank = learner.spec.rank
    own = list(PACKS[2 * rank : 2 * rank + 2])
    if value is not None and rank == BAD_RANK:
        own[1] = poisoned(own[1], value)
    targets = sum(len(pack.targets) for pack in PACKS)
    [metrics] = learner.update([MiniBatch(packs=tuple(own), loss_tokens=targets, loss_sequences=8)])
    return metrics["skipped"]


def weights_of(learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.outlet.stream()}


def met(rank: int, ranks: int, path: Path, stages: list[int]) -> list[dict]:
    found = []
    for stage in stages:
        untouched, learner = (learner_of(path, stage, rank, ranks) for _ in range(2))
        step(untouched)
        step(untouched)
        step(learner)
        before = weights_of(learner)
        skipped = [step(learner, float("nan"))]
        after = weights_of(learner)
        skipped += [step(learner), step(learner, float("inf"))]
        clean = weights_of(learner)
        with pytest.raises(RunError, match="not finite in 2 steps in a row"):
            step(learner, float("nan"))
        found.append(
            {"skipped": skipped, "before": before, "after": after, "clean": clean, "untouched": weights_of(untouched)}
        )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("stages", [[1], [0, 2, 3]], ids=["default", "rest"])
def test_all_ranks_skip_together_and_end_together(tmp_path: Path, stages: list[int]) -> None:
    """What is not finite leaves weights and moments as they were: the next clean step is the one that it would have
    been without."""
    path = save_llama(tmp_path / "model")
    ranks = on_ranks(2, met, tmp_path, path, stages)
    for first, second in zip(*ranks, strict=True):
        assert first["skipped"] == second["skipped"] == [1.0, 0.0, 1.0]
        for rank in (first, second):
            for name, weight in rank["before"].items():
                assert torch.equal(weight, rank["after"][name])
                assert not torch.equal(weight, rank["clean"][name]) or weight.numel() == 0
                assert torch.equal(rank["clean"][name], rank["untouched"][name])
