"""Model merging: the weighted arithmetic mean of parameters (openPangu-VL 4.3, MindVL 3.5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def normalised(weights: Sequence[float]) -> list[float]:
    """`weights` over their sum.

    Raises:
        ValueError: one is negative or no number, or all are 0.
    """
    bad = [weight for weight in weights if not (math.isfinite(weight) and weight >= 0)]
    if bad or not sum(weights) > 0:
        raise ValueError(f"weights {', '.join(f'{w:g}' for w in weights)}: each must be 0 or more, and one above 0")
    return [weight / sum(weights) for weight in weights]


def weighted_mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum(w * t) / sum(w) over tensors of one shape and dtype, summed in float64 and rounded once, to their dtype.

    Equal tensors give that tensor, to the bit. Integers and booleans have no mean.

    Raises:
        ValueError: they are integers or booleans, and differ.
    """
    first = tensors[0]
    if not first.is_floating_point():
        if any(not torch.equal(first, other) for other in tensors[1:]):
            raise ValueError(f"{first.dtype} values differ, and have no mean")
        return first.clone()
    total = torch.zeros(first.shape, dtype=torch.float64)
    for tensor, weight in zip(tensors, weights, strict=True):
        # A weight of 0 leaves a model out, whatever it holds: 0 x inf is no number.
        if weight:
            total.add_(tensor.to(torch.float64), alpha=weight)
    return (total / math.fsum(weights)).to(first.dtype)
