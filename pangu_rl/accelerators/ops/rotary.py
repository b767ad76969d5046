"""Rotary positions: x cos + rotate_half(x) sin per head. Su et al., arXiv 2104.09864; halves as in Llama.

Letters: B batch, H heads, T tokens, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pangu_rl.accelerators.ops.table import COMPILED, HALVES, Kernel, Operation, uncompiled, unlike


def _reference(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos.unsqueeze(1) + torch.cat((-second, first), -1) * sin.unsqueeze(1)


class _Compiled(torch.autograd.Function):
    """In float32, rounded once. The result lies in memory as [B, T, H, D], which a packed attention reads by rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        cos, sin = (angle.expand(len(x), -1, -1).contiguous() for angle in (cos, sin))
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, back=False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _turn(grad, *ctx.saved_tensors, back=True), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool) -> Tensor:
    batch, heads, tokens, size = x.shape
    rows = x.transpose(1, 2).reshape(batch * tokens, heads, size)
    if rows.stride(2) != 1:
        rows = rows.contiguous()
    turned = torch.ops.pangu_rl.rotary(rows, cos.flatten(0, 1), sin.flatten(0, 1), back)
    return turned.view(batch, tokens, heads, size).transpose(1, 2)


def _npu_rotary_mul(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.ops.npu.npu_rotary_mul(x, cos.unsqueeze(1), sin.unsqueeze(1), "half")


def _refuses(x: Tensor, cos: Tensor, sin: Tensor) -> str | None:
    if x.shape[-1] != cos.shape[-1] or x.shape[-1] % 2:
        return f"heads of {x.shape[-1]} for angles of {cos.shape[-1]}"
    return unlike(x, cos, sin, dtypes=COMPILED)


def _npu_refuses(x: Tensor, cos: Tensor, sin: Tensor) -> str | None:
    # Its documentation: an even head size below 896.
    if x.shape[-1] >= 896 or x.shape[-1] % 2 or x.shape[-1] != cos.shape[-1]:
        return f"heads of {x.shape[-1]} for angles of {cos.shape[-1]}"
    return unlike(x, cos, sin, dtypes=HALVES)


rotary = Operation(
    "rotary",
    _reference,
    {
        "cpu": Kernel(name="compiled", call=_Compiled.apply, refuses=_refuses, missing=uncompiled),
        "npu": Kernel(name="npu_rotary_mul", call=_npu_rotary_mul, refuses=_npu_refuses),
    },
)
"""(x [B, H, T, D], cos and sin [B or 1, T, D]) -> [B, H, T, D]."""
