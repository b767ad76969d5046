"""Part b: forward, backward and AdamW of packed models, text and with pictures, with all that the learner puts in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from pangu_rl.accelerators.ops import take_fallbacks
from pangu_rl.config.sections.learner import OptimizerConfig
from pangu_rl.learner.fused import fuse_operations
from pangu_rl.learner.model import PackedCausalLM, PackTensors
from pangu_rl.learner.optimizer import build_optimizer
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.records import Pack
from tests.ascend.live.device import DEVICE, npu_of_shapes
from tests.unit.learner.builders import llama, tree_pack
from tests.unit.learner.families import tiny
from tests.unit.learner.vl_builders import group, packed, pangu_vl, picture

FUSED = {"npu_fusion_attention", "npu_fusion_attention_grad", "npu_rms_norm", "npu_rms_norm_backward"}
FUSED |= {"npu_rotary_mul", "npu_rotary_mul_backward", "npu_swiglu", "npu_swiglu_backward"}


def step(lm: PreTrainedModel, packs: Sequence[Pack], *, checkpointing: bool = False) -> set[str]:
    """Forward and backward over `packs`, and a step; returns torch-npu's own operators that ran."""
    lm.set_attn_implementation(PACKED)
    fuse_operations(lm)
    take_fallbacks()
    with npu_of_shapes() as mode:
        lm = lm.to(DEVICE)
        if checkpointing:
            lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            lm.train()
        optimizer = build_optimizer(lm.parameters(), OptimizerConfig(), 0)
        module = PackedCausalLM(lm, temperature=1.0, chunk=7)
        for pack in packs:
            batch = PackTensors.of(pack, DEVICE)
            with attend_by(batch.layout):
                logp, _ = module(batch)
                assert (logp.device, logp.dtype) == (torch.device(DEVICE), torch.float32)
                (logp * batch.columns["advantages"]).sum().backward()
        without = [name for name, parameter in lm.named_parameters() if parameter.grad is None]
        assert not without, f"no gradient: {', '.join(without)}"
        optimizer.step()
    assert take_fallbacks() == 0
    return {op.name().removeprefix("npu::") for op in mode.calls if op.namespace == "npu"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_text(dtype: torch.dtype, checkpointing: bool) -> None:
    pack = tree_pack([(7, [5, 3, 4]), (3, [4, 4])])
    assert step(llama().to(dtype), [pack], checkpointing=checkpointing) >= FUSED


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_pictures(dtype: torch.dtype) -> None:
    groups = [
        group("a", [picture("wide", 2, 3), picture("tall", 4, 1)], [5, 3, 4]),
        group("t", [], [4, 4]),
        group("b", [picture("large", 5, 6)], [3]),
    ]
    assert step(pangu_vl().to(dtype), packed(groups)) >= FUSED | {"npu_gelu"}


def test_experts() -> None:
    assert "npu_grouped_matmul" in step(
        tiny("qwen3_moe", torch.bfloat16, attention="eager"), [tree_pack([(7, [5, 3])])]
    )
