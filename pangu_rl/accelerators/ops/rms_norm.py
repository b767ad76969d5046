"""RMS norm: x / sqrt(mean(x^2) + eps) * weight over the last axis. Zhang and Sennrich, arXiv 1910.07467.

In float32, rounded to x's dtype before the weight: the order of roundings is Llama's. Letters: W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pangu_rl.accelerators.ops.table import COMPILED, HALVES, Kernel, Operation, uncompiled, unlike
from pangu_rl.accelerators.row_pieces import row_pieces


class _Reference(torch.autograd.Function):
    """Both directions written out: as a chain of autograd's own it takes twice the passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        inverse = torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device)
        for rows, result, scale in row_pieces(*(y.flatten(0, -2) for y in (x, out, inverse))):
            wide = rows.to(torch.float32)
            torch.linalg.vector_norm(wide, dim=-1, keepdim=True, out=scale)
            scale.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
            result.copy_(wide * scale).mul_(weight)
        ctx.save_for_backward(x, weight, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """With n = x * inverse and g = grad * weight: dx = inverse * (g - n * mean(g * n))."""
        x, weight, inverse = ctx.saved_tensors
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        factor = weight.float()
        for rows, slope, scale, result in row_pieces(*(y.flatten(0, -2) for y in (x, grad, inverse, grad_x))):
            normal, wide = rows.to(torch.float32) * scale, slope.to(torch.float32)
            product = wide * normal
            grad_weight += product.sum(0)
            mean = torch.mv(product, factor).div_(x.shape[-1]).unsqueeze(-1)
            result.copy_((wide * factor).addcmul_(normal, mean, value=-1).mul_(scale))
        return grad_x, grad_weight.to(weight.dtype), None


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        out, inverse = torch.ops.pangu_rl.rms_norm(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return *torch.ops.pangu_rl.rms_norm_backward(grad.contiguous(), *ctx.saved_tensors), None


def _refuses(x: Tensor, weight: Tensor, eps: float) -> str | None:
    if weight.shape != x.shape[-1:]:
        return f"weight {tuple(weight.shape)} for rows of {x.shape[-1]}"
    return unlike(x, weight, dtypes=HALVES)


rms_norm = Operation(
    "rms_norm",
    _Reference.apply,
    {
        "cpu": Kernel(
            name="compiled",
            call=_Compiled.apply,
            refuses=lambda x, weight, eps: _refuses(x, weight, eps) or unlike(x, weight, dtypes=COMPILED),
            missing=uncompiled,
        ),
        "cuda": Kernel(
            name="torch's rms_norm",
            call=lambda x, weight, eps: functional.rms_norm(x, x.shape[-1:], weight, eps),
            refuses=_refuses,
        ),
        # Its documentation: gamma of x's dtype, 2 to 8 axes, which rows of a batch have.
        "npu": Kernel(
            name="npu_rms_norm",
            call=lambda x, weight, eps: torch.ops.npu.npu_rms_norm(x, weight, eps)[0],
            refuses=_refuses,
        ),
    },
)
"""(x [..., W], weight [W], eps) -> [..., W]."""
