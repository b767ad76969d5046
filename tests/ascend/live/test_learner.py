"""Part b: the real learner on DeepSpeed's NPU accelerator, at every ZeRO stage, in a group of hccl's.

Weights come to the device when they are all loaded: the data of a parameter cannot be changed for a fake.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import pangu_rl.learner.learner as learner
from pangu_rl.accelerators.collective import free_port
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.learner.model import load_causal_lm
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch
from tests.ascend.live.device import npu_of_shapes
from tests.unit.learner.builders import save_llama, tree_pack
from tests.unit.learner.vl_builders import group, packed, picture, save_pangu_vl


@pytest.fixture(autouse=True)
def one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "RANK": "0", "WORLD_SIZE": "1"}
    for name, value in {**ranks, "LOCAL_RANK": "0", "DS_ACCELERATOR": "npu"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(learner, "load_causal_lm", lambda model, place: load_causal_lm(model))
    # What ranks have sent each other over the device is no number here, and DeepSpeed compares it.
    for module in [module for name, module in sys.modules.items() if name.startswith("deepspeed.runtime.zero")]:
        for check in ("assert_ints_same_as_other_ranks", "assert_lst_len_same_as_other_ranks"):
            if hasattr(module, check):
                monkeypatch.setattr(module, check, lambda values: None)


@pytest.mark.parametrize(("dtype", "stage"), [("float32", 0), ("bfloat16", 1), ("bfloat16", 2), ("bfloat16", 3)])
@pytest.mark.parametrize("kind", ["text", "pictures"])
def test_an_update_and_a_publication(kind: str, dtype: str, stage: int, tmp_path: Path) -> None:
    save, packs = SAVED[kind]
    path = save(tmp_path / "model", dtype=getattr(torch, dtype))
    spec = LearnerSpec(
        model=ModelConfig(path=str(path), dtype=dtype),
        learner=LearnerConfig(zero_stage=stage, gradient_checkpointing=stage == 2),
        objective="grpo",
        algorithm=GrpoAlgorithmConfig(),
        total_steps=10,
        accelerator="npu",
    )
    targets, sequences = sum(len(pack.targets) for pack in packs), sum(len(set(pack.sequence_ids)) for pack in packs)
    with npu_of_shapes(float64=stage >= 2):  # in which DeepSpeed takes the norm of partitioned gradients
        rank = learner.Learner(spec)
        assert rank.device == torch.device("npu:0")
        (metrics,) = rank.update([MiniBatch(packs=tuple(packs), loss_tokens=targets, loss_sequences=sequences)])
        assert [len(logp) for logp in rank.log_probs(packs)] == [len(pack.targets) for pack in packs]
        rank.outlet.open_publisher("shm")
        assert rank.outlet.publish(1).tensors
    assert (metrics["skipped"], metrics["fallback_ops"]) == (0.0, 0.0)


SAVED = {
    "text": (save_llama, [tree_pack([(6, [9, 4]), (11, [5, 7, 2])])]),
    "pictures": (
        save_pangu_vl,
        packed(
            [
                group("a", [picture("wide", 2, 3)], [5, 3, 4], advantages=[1.0, -1.0, 0.5]),
                group("t", [], [4, 4], advantages=[1.0, -1.0]),
            ]
        ),
    ),
}
"""How a model is saved, and packs for it."""
