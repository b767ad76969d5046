"""A checkpoint goes on with another number of ranks: the next step is the one that the first ranks would have taken."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import CheckpointError
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch
from tests.gloo_ranks import on_ranks
from tests.unit.learner.builders import plain_pack
from tests.unit.learner.vl_builders import save_pangu_vl

Case = tuple[Literal[0, 1, 2, 3], str]
"""ZeRO stage and dtype."""
PACKS = tuple(plain_pack([[5 + n, 7, 9, 11, 8], [4, 6 + n, 12]], trained_from=[1, 1]) for n in range(2))
LATER = tuple(plain_pack([[15, 7 + n, 19, 21], [3, 16, 2 + n, 9]], trained_from=[2, 1]) for n in range(2))
OPTIMIZER = OptimizerConfig(lr=1e-2, eps=1e-2, grad_clip=0.1, encoder_lr_ratio=0.5, schedule="linear", weight_decay=0.1)
"""Two groups of rates, each in what decays and what does not; a large eps keeps Adam from blowing up rounding."""


def build(path: Path, case: Case, rank: int, ranks: int):
    from pangu_rl.learner.learner import Learner

    return Learner(
        LearnerSpec(
            model=ModelConfig(path=str(path), dtype=case[1]),
            learner=LearnerConfig(zero_stage=case[0], optimizer=OPTIMIZER, ranks=ranks),
            objective="sft",
            total_steps=4,
            rank=rank,
            world_size=ranks,
        )
    )


def step(learner, packs) -> dict[str, float]:
    """The ranks' packs, or both on one."""
    rank, ranks = learner.spec.rank, learner.spec.world_size
    mine = packs if ranks == 1 else (packs[rank],)
    [metrics] = learner.update(
        [MiniBatch(packs=mine, loss_tokens=sum(len(p.targets) for p in packs), loss_sequences=4)]
    )
    return metrics


def weights_of(learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.outlet.stream()}


def folder_of(home: Path, case: Case, ranks: int) -> Path:
    folder = home / f"zero_{case[0]}_{case[1]}_by_{ranks}" / "learner"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def two_ranks(rank: int, ranks: int, path: Path, home: Path, cases: list[Case]) -> list[dict]:
    """A first step, saved; a second one; and a second one after the first of a single rank."""
    found = []
    for case in cases:
        learner = build(path, case, rank, ranks)
        step(learner, PACKS)
        learner.save(folder_of(home, case, ranks)).result()
        own = step(learner, LATER), weights_of(learner)
        taken_over = build(path, case, rank, ranks)
        taken_over.load(folder_of(home, case, 1))
        found.append({"own": own, "taken over": (step(taken_over, LATER), weights_of(taken_over))})
    return found


@pytest.mark.usefixtures("rendezvous")
@pytest.mark.parametrize(
    "cases",
    [
        pytest.param([(1, "float32")], id="default"),
        pytest.param([(0, "float32"), (1, "bfloat16"), (2, "bfloat16")], id="rest", marks=pytest.mark.slow),
    ],
)
def test_the_next_step_is_the_same(tmp_path: Path, cases: list[Case]) -> None:
    path = save_pangu_vl(tmp_path / "model")
    for case in cases:
        learner = build(path, case, 0, 1)
        step(learner, PACKS)
        learner.save(folder_of(tmp_path, case, 1)).result()
    found = on_ranks(2, two_ranks, tmp_path, path, tmp_path, cases)
    for number, case in enumerate(cases):
        alone = build(path, case, 0, 1)
        start = weights_of(alone)
        alone.load(folder_of(tmp_path, case, 2))
        assert not list(tmp_path.glob(".*for_1_ranks"))
        metrics, weights = step(alone, LATER), weights_of(alone)
        assert any((weights[name] - start[name]).abs().max() > 1e-3 for name in weights)
        tolerance = 2e-6 if case[1] == "float32" else 2e-3
        for outcome in (outcome for rank in found for outcome in rank[number].values()):
            theirs, tensors = outcome
            assert theirs["loss"] == pytest.approx(metrics["loss"], abs=tolerance)
            assert theirs["lr"] == metrics["lr"]
            relative = 1e-5 if case[1] == "float32" else 1e-2  # bfloat16 has steps of 1 in 128 to 256
            for name, tensor in weights.items():
                torch.testing.assert_close(tensors[name], tensor, atol=tolerance, rtol=relative, msg=f"{name} {case}")


@pytest.mark.usefixtures("rendezvous")
def test_zero_3_says_that_it_cannot(tmp_path: Path) -> None:
    learner = build(save_pangu_vl(tmp_path / "model"), (3, "float32"), 0, 1)
    folder = folder_of(tmp_path, (3, "float32"), 1)
    learner.save(folder).result()
    text = (folder / "learner.json").read_text()
    (folder / "learner.json").write_text(text.replace('"world_size": 1', '"world_size": 2'))
    with pytest.raises(CheckpointError, match="saved with world_size 2, this run has 1"):
        learner.load(folder)
