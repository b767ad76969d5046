"""What attention over a tree of segments asks of a device: **one record of two functions**, and what it cannot do.

A segment attends causally to itself and to all of its ancestors. A kernel keeps no probabilities: it gives the output
and the log-sum-exp of the scores, from which its backward pass works the probabilities out again. So whatever joins the
softmax from outside (another pass over other keys, a sink) only has to be merged into these two.
Letters: T tokens, H heads, K key-value heads dividing H, D head size, S segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pangu_rl.accelerators.attention.segments import Segments

Forward = Callable[[Tensor, Tensor, Tensor, Segments, "Scores"], tuple[Tensor, Tensor]]
Backward = Callable[
    [Tensor, tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor], Segments, "Scores"], tuple[Tensor, Tensor, Tensor]
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How a layer's scores come out of q k^T."""

    scale: float
    window: int = 0
    """Tokens of its sequence that a token sees, itself included, counted over ancestors; 0 sees all."""
    cap: float = 0.0
    """c of c * tanh(score / c), after the scale; 0 has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionKernel:
    """Attention over a tree of segments on one kind of device."""

    name: str
    forward: Forward
    """query [T, H, D], key and value [T, K, D] -> output [T, H, D] in their dtype, log-sum-exp float32 [H, T]."""
    backward: Backward
    """Gradient of the output [T, H, D], (query, key, value), (output, log-sum-exp) -> gradients of the three. Output
    and log-sum-exp may have been merged with others: P = exp(score - lse), and its slope needs sum(grad * output)."""
    dtypes: tuple[torch.dtype, ...]
    """Of query, key and value."""
    head_multiple: int = 1
    """Head sizes are padded with zeros to a multiple of it."""
    longest_head: int | None = None
    """Largest head size that it takes; None where there is no limit."""
    caps: bool = True
    """Whether it can cap scores."""

    def lacks(self, size: int, scores: Scores) -> str | None:
        """What of a layer with heads of `size` the kernel cannot compute, in words; None when it can."""
        if scores.cap and not self.caps:
            return f"a soft cap of {scores.cap:g} on attention scores"
        if self.longest_head is not None and size > self.longest_head:
            return f"attention heads of {size} (the kernel's limit is {self.longest_head})"
        return None
