"""RMS norm of the vision tower and the connector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pangu_rl.accelerators import ops


class RMSNorm(nn.Module):
    """`ops.rms_norm` with a learned weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., W] -> [..., W]."""
        return ops.rms_norm(x, self.weight, self.eps)
