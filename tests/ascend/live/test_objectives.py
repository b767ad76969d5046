"""Part b: every objective on the device, forward and backward, with its totals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pangu_rl.config.sections.algorithm import CorrectionConfig, GrpoAlgorithmConfig, SupervisedConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.preference import MpoAlgorithmConfig
from pangu_rl.learner.fused import fuse_operations
from pangu_rl.learner.model import PackedCausalLM, PackTensors
from pangu_rl.learner.objectives import build_objective
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch
from tests.ascend.live.device import DEVICE, npu_of_shapes
from tests.unit.learner import pair_builders
from tests.unit.learner.builders import llama, tree_pack
from tests.unit.learner.vl_builders import pangu_vl, picture

PACK = tree_pack([(7, [5, 3, 4]), (3, [4, 4])])
BATCH = MiniBatch(packs=(PACK,), loss_tokens=20, loss_sequences=5, loss_roots=3.0)
OLD = replace(PACK, columns=PACK.columns | {"old_logprobs": PACK.columns["sampler_logprobs"]})


def cases() -> Iterator[Any]:
    for aggregation in ("token", "sequence", "sequence_sum"):
        algorithm = GrpoAlgorithmConfig(aggregation=aggregation)
        yield pytest.param("grpo", algorithm, BATCH, id=f"grpo by {aggregation}")
    for loss in ("gspo", "cispo"):
        yield pytest.param("grpo", GrpoAlgorithmConfig(loss=loss), BATCH, id=loss)
    corrected = GrpoAlgorithmConfig(correction=CorrectionConfig(high=2.0))
    yield pytest.param("grpo", corrected, replace(BATCH, packs=(OLD,)), id="grpo with importance weights")
    for average in ("balanced", "token", "sample", "square"):
        yield pytest.param("sft", SupervisedConfig(average=average), BATCH, id=f"sft by {average}")
    pairs = [
        pair_builders.pair("p", [picture("wide", 2, 3)], (4, 3), (-3.0, -4.0)),
        pair_builders.pair("q", [], (2, 5), (-3.0, -4.0)),
    ]
    for batch in pair_builders.mini_batches(pairs, [pair_builders.sft_row("r", 6)]):
        yield pytest.param("mpo", MpoAlgorithmConfig(), batch, id="mpo")


@pytest.mark.parametrize(("objective", "algorithm", "batch"), cases())
def test_an_objective_gives_every_weight_a_gradient(objective: str, algorithm: Any, batch: MiniBatch) -> None:
    lm = pangu_vl() if objective == "mpo" else llama()
    lm.set_attn_implementation(PACKED)
    fuse_operations(lm)
    spec = LearnerSpec(
        model=ModelConfig(path="x"), learner=LearnerConfig(), objective=objective, algorithm=algorithm, total_steps=3
    )
    with npu_of_shapes():
        lm = lm.to(DEVICE)
        module, goal = PackedCausalLM(lm, temperature=1.0, chunk=64), build_objective(spec)
        for pack in batch.packs:
            tensors = PackTensors.of(pack, DEVICE)
            with attend_by(tensors.layout):
                logp, entropy = module(tensors)
                if goal.statistic is not None:
                    goal.statistic.take(float(goal.statistic.share(logp.detach(), tensors, batch)))
                loss, totals = goal.loss(logp, entropy, tensors, batch)
                loss.backward()
        assert all(total.numel() == 1 for total in totals.values())
        assert goal.means(dict.fromkeys(totals, 1.0))
    assert [name for name, parameter in lm.named_parameters() if parameter.grad is None] == []
