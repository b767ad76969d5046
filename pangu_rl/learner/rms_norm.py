"""RMS norm in half the passes over memory: loaded model -> **its norms replaced** -> learner.

transformers writes RMSNorm as a chain of elementwise operations. On a CPU, where these are bound by memory, the chain
and its autograd take as long as half of the matrix products. Here both directions are written out and work in place.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 2e-2
"""Of a replacement against the original on standard normal input, in bfloat16: four roundings of a value near 1."""


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32, rounded to x's dtype before the weight.

    x: [..., E]; weight: [E]. Zhang and Sennrich, arXiv 1910.07467; the order of roundings is Llama's.
    """
    return _RmsNorm.apply(x, weight, eps)


def replace_rms_norms(model: nn.Module) -> int:
    """Let every module that computes `rms_norm` compute it here; returns how many were found.

    A module counts by what it does, not by its name alone: one that centres, offsets its weight or uses another order
    gives other numbers for the same input and is left as it is.
    """
    replaced = 0
    for module in model.modules():
        eps = getattr(module, "variance_epsilon", None)
        if type(module).__name__.endswith("RMSNorm") and eps is not None and _is_plain(module, eps):
            module.forward = partial(_forward, module, eps)
            replaced += 1
    return replaced


def _forward(module: nn.Module, eps: float, x: Tensor) -> Tensor:
    return rms_norm(x, module.weight, eps)


@torch.no_grad()
def _is_plain(module: nn.Module, eps: float) -> bool:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, module.weight.shape[-1], generator=generator).to(module.weight)
    return torch.allclose(rms_norm(x, module.weight, eps), module(x), atol=TOLERANCE, rtol=TOLERANCE)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normal = x.to(torch.float32, copy=True)
        inverse = torch.linalg.vector_norm(normal, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return normal.mul_(inverse).to(x.dtype).mul(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """With n = x * inverse and g = grad * weight: dx = inverse * (g - n * mean(g * n))."""
        x, weight, inverse = ctx.saved_tensors
        normal = x.to(torch.float32, copy=True).mul_(inverse)
        slope = grad.to(torch.float32, copy=True)
        product, scale = slope * normal, weight.float()
        mean = torch.matmul(product, scale).div_(x.shape[-1]).unsqueeze(-1)
        grad_x = slope.mul_(scale).addcmul_(normal, mean, value=-1).mul_(inverse)
        return grad_x.to(x.dtype), product.flatten(0, -2).sum(0).to(weight.dtype), None
