"""Rows in groups, each times the matrix of its group: the product in a layer of experts.

Letters: T rows, G groups, K inputs, N outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pangu_rl.accelerators.ops.table import HALVES, Kernel, Operation, unlike

INNER_LIMIT = 65536
"""Of the last axis of each matrix, for `npu_grouped_matmul`."""
BY_ROWS = {"split_item": 2, "group_type": 0}
BY_SUMS = {"split_item": 3, "group_type": 2}
"""The groups lie along the axis that is summed over, so that each has a result of its own."""


class _Npu(torch.autograd.Function):
    """`npu_grouped_matmul` gives its result no gradient, and does not say so."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
        ends = ends.to(torch.int64)
        ctx.save_for_backward(x, weight, ends)
        return torch.ops.npu.npu_grouped_matmul([x], [weight], group_list=ends, **BY_ROWS)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, ends = ctx.saved_tensors
        grad_x = torch.ops.npu.npu_grouped_matmul([grad], [weight.mT], group_list=ends, **BY_ROWS)[0]
        grad_weight = torch.ops.npu.npu_grouped_matmul([x.t()], [grad], group_list=ends, **BY_SUMS)[0]
        return grad_x, grad_weight, None


def _refuses(x: Tensor, weight: Tensor, ends: Tensor) -> str | None:
    if max(x.shape[-1], weight.shape[-1]) >= INNER_LIMIT:
        return f"matrices of {x.shape[-1]} by {weight.shape[-1]}, each below {INNER_LIMIT}"
    return unlike(x, weight, dtypes=HALVES)


grouped_matmul = Operation(
    "grouped_matmul",
    lambda x, weight, ends: functional.grouped_mm(x, weight, offs=ends),
    {"npu": Kernel(name="npu_grouped_matmul", call=_Npu.apply, refuses=_refuses)},
)
"""(x [T, K], weight [G, K, N], int32 or int64 [G] cumulative ends of the groups) -> [T, N]."""
