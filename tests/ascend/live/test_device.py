"""Part b: what the live checks ask of every operator catches what it is there for."""

from __future__ import annotations

import pytest
import torch

from tests.ascend.fake_npu import FakeNpu
from tests.ascend.live.device import DEVICE, npu_of_shapes, without_kernel
from tests.ascend.npu_facts import PIN


def test_an_operator_that_has_no_kernel_is_named() -> None:
    operators = [torch.ops.aten.add.Tensor, torch.ops.aten._flash_attention_forward.default]
    assert without_kernel(operators) == ["aten._flash_attention_forward.default"]


def test_what_the_newest_release_alone_has_is_no_kernel() -> None:
    assert without_kernel([torch.ops.aten._fused_adam_.default, torch.ops.aten._fused_adamw_.default]) == [
        "aten._fused_adam_.default"
    ], PIN


def test_float64_on_the_device_is_named() -> None:
    with pytest.raises(AssertionError, match="float64 on the device: aten"), npu_of_shapes():
        torch.zeros(3, dtype=torch.float64, device=DEVICE).add(1)


def test_a_check_in_which_nothing_runs_is_none() -> None:
    with pytest.raises(AssertionError, match="nothing ran on the device"), npu_of_shapes():
        torch.zeros(3)


@pytest.mark.parametrize("wrong", [{"attn_mask": None}, {"actual_seq_qlen": torch.tensor([4, 9])}])
def test_the_real_schema_refuses_a_wrong_argument(wrong: dict[str, object]) -> None:
    with FakeNpu():
        x = torch.zeros(9, 2, 16, device=DEVICE)
        with pytest.raises(RuntimeError, match="npu_fusion_attention"):
            torch.ops.npu.npu_fusion_attention(x, x, x, 2, "TND", **wrong)
