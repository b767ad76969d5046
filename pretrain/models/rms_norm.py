"""RMS norm of the vision tower and the connector, both directions written out.

As a chain of elementwise operations it would take longer on a CPU than the matrix products around it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pretrain.models.row_pieces import row_pieces


class RMSNorm(nn.Module):
    """`rms_norm` with a learned weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., W] -> [..., W]."""
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32, rounded to x's dtype before the weight.

    x: [..., W]; weight: [W]. Zhang and Sennrich, arXiv 1910.07467; the order of roundings is Llama's.
    """
    return _RmsNorm.apply(x, weight, eps)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        inverse = torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device)
        for rows, result, scale in row_pieces(*(tensor.flatten(0, -2) for tensor in (x, out, inverse))):
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
        flat = (tensor.flatten(0, -2) for tensor in (x, grad, inverse, grad_x))
        for rows, slope, scale, result in row_pieces(*flat):
            normal, wide = rows.to(torch.float32) * scale, slope.to(torch.float32)
            product = wide * normal
            grad_weight += product.sum(0)
            mean = torch.mv(product, factor).div_(x.shape[-1]).unsqueeze(-1)
            result.copy_((wide * factor).addcmul_(normal, mean, value=-1).mul_(scale))
        return grad_x, grad_weight.to(weight.dtype), None
