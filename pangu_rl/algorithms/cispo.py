"""CISPO (MiniMax 2025, arXiv 2506.13585, eq. 4, 5): token ratios -> **bounded weights of the policy gradient** -> loss.

Every token keeps its gradient; the clip bounds how much it counts. As in the paper's runs there is no lower bound.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cispo_surrogate(ratio: Tensor, logp: Tensor, advantages: Tensor, clip_high: float) -> tuple[Tensor, Tensor, Tensor]:
    """min(r, 1 + clip_high) A logp, the weight without gradient; and where it is cut below (nowhere) and above (bool).

    All of one shape, [T] or [N, T].
    """
    weight = ratio.detach().clamp(max=1 + clip_high)
    cut = ratio > 1 + clip_high
    return weight * advantages * logp, torch.zeros_like(cut), cut
