"""A step of adapters does not depend on ranks, and a resume goes on with another number of them.

One rank against two, ZeRO 0 to 3, each with packs of its own or both with parts of the same, in float32; adapters of
one rank are those of plain peft (`unit/learner`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.lora import LoraConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.data.packs.batching import split_ranks
from pangu_rl.data.packs.micro_batches import Dealing
from pangu_rl.learner.spec import LearnerSpec
from tests.gloo_ranks import on_ranks
from tests.numerics.test_learner_invariance import GROUPS, OPTIMIZER, SEQUENCES, TOKENS
from tests.unit.learner.builders import save_llama

STAGES = (0, 1, 2, 3)
SAVED = "saved_by_1"
"""Checkpoint of one rank, ZeRO 1, which two go on from."""


def two_steps(
    path: Path, stage: int, rank: int, ranks: int, *, resumed: bool = False, shared: bool = False
) -> dict[str, torch.Tensor]:
    """Adapters, folded weights and what the second step says, after two steps; `resumed` takes the second alone, of
    `shared` packs each rank runs a part."""
    from pangu_rl.learner.learner import Learner

    described = LearnerSpec(
        model=ModelConfig(path=str(path / "model"), dtype="float32"),
        learner=LearnerConfig(
            zero_stage=stage,
            optimizer=OPTIMIZER,
            ranks=ranks,
            sequence_parallel=ranks if shared else 1,
            lora=LoraConfig(rank=4, alpha=8.0),
        ),
        objective="grpo",
        algorithm=GrpoAlgorithmConfig(kl_weight=0.1),
        total_steps=2,
        rank=rank,
        world_size=ranks,
    )
    learner = Learner(described)
    batches = split_ranks(GROUPS, 1 if shared else ranks, TOKENS, SEQUENCES, Dealing(in_rows=stage >= 2))
    batch = batches[0 if shared else rank]
    if resumed:
        learner.load(path / SAVED)
    else:
        learner.update([batch])
        if (stage, ranks) == (1, 1):
            (path / SAVED).mkdir()
            learner.save(path / SAVED).result()
    [metrics] = learner.update([batch])
    told = {name: torch.tensor(metrics[name]) for name in ("loss", "grad_norm", "kl_reference")}
    folded = {name: tensor.clone() for name, tensor in learner.outlet.stream()}
    return told | {name: tensor.clone() for name, tensor in learner.outlet.tensors.adapter_stream()} | folded


def all_cases(rank: int, ranks: int, path: Path) -> dict[str, dict[str, torch.Tensor]]:
    found = {str(stage): two_steps(path, stage, rank, ranks) for stage in STAGES}
    found["resumed"] = two_steps(path, 1, rank, ranks, resumed=True)
    return found | {"shared": two_steps(path, 1, rank, ranks, shared=True)}


@pytest.mark.usefixtures("rendezvous")
def test_two_ranks_take_the_steps_of_one(tmp_path: Path) -> None:
    save_llama(tmp_path / "model")
    expected = two_steps(tmp_path, 1, 0, 1)
    for cases in on_ranks(2, all_cases, tmp_path, tmp_path):
        for case, found in cases.items():
            assert found.keys() == expected.keys()
            for name, tensor in expected.items():
                # A step moves an adapter by up to 1e-2; float32 sums in another order.
                torch.testing.assert_close(found[name], tensor, atol=2e-6, rtol=1e-5, msg=f"{case} {name}")
