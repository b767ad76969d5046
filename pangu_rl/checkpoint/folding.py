"""Folding a low-rank adapter into its weight: W + scale B A (arXiv 2106.09685, section 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor


def folded(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """weight [N, K] + scale * b [N, R] a [R, K], worked out in float32 and rounded once, to the dtype of `weight`."""
    return torch.addmm(weight.float(), b.float(), a.float(), alpha=scale).to(weight.dtype)
