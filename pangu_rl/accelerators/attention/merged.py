"""A device's attention for runs of variable length -> **attention over a tree**: passes merged into one softmax.

Of two passes over different keys, with outputs o1, o2 and log-sum-exps l1, l2, the softmax over both has
l = logaddexp(l1, l2) and o = o1 exp(l1 - l) + o2 exp(l2 - l). Backward needs no merged kernel: each pass's own, given
the *merged* output and log-sum-exp, has the right P = exp(score - l) and the right sum(grad * o), as in ring attention
(arXiv 2310.01889).
Letters: Q queries and L keys of a pass, H heads, K key-value heads, D head size, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pangu_rl.accelerators.attention.kernel import AttentionKernel, Scores
from pangu_rl.accelerators.attention.segments import Pass, Segments


@dataclass(frozen=True, slots=True, kw_only=True)
class VarlenKernel:
    """Attention of runs of queries to runs of keys."""

    name: str
    forward: Callable[[Tensor, Tensor, Tensor, Pass, Scores], tuple[Tensor, Tensor]]
    """query [Q, H, D], key and value [L, K, D] -> output [Q, H, D], log-sum-exp float32 [H, Q]."""
    backward: Callable[
        [Tensor, tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor], Pass, Scores], tuple[Tensor, Tensor, Tensor]
    ]
    """Gradient of the output, (query, key, value), (output, log-sum-exp) -> gradients of the three."""
    dtypes: tuple[torch.dtype, ...]
    head_multiple: int
    longest_head: int


def over_trees(varlen: VarlenKernel) -> AttentionKernel:
    """`varlen` for trees; it caps no scores, as no fused kernel in use does."""

    def forward(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scores: Scores) -> tuple[Tensor, Tensor]:
        first, *others = segments.passes(scores.window)
        out, lse = varlen.forward(query, _taken(key, first.keys), _taken(value, first.keys), first, scores)
        if others:
            out = out.float()
        for each in others:
            chosen = each.queries
            part, part_lse = varlen.forward(
                query[chosen], _taken(key, each.keys), _taken(value, each.keys), each, scores
            )
            own = lse[:, chosen]
            merged = torch.logaddexp(own, part_lse)
            out[chosen] = _weighted(out[chosen], own - merged) + _weighted(part.float(), part_lse - merged)
            lse[:, chosen] = merged
        return out.to(query.dtype), lse

    def backward(
        grad_out: Tensor,
        inputs: tuple[Tensor, Tensor, Tensor],
        outputs: tuple[Tensor, Tensor],
        segments: Segments,
        scores: Scores,
    ) -> tuple[Tensor, Tensor, Tensor]:
        (query, key, value), (out, lse) = inputs, outputs
        # A key gathers its gradient from many passes and runs: the sum is float32.
        totals = [torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in inputs]
        for each in segments.passes(scores.window):
            chosen = each.queries if each.queries is not None else slice(None)
            grads = varlen.backward(
                grad_out[chosen].contiguous(),
                (query[chosen], _taken(key, each.keys), _taken(value, each.keys)),
                (out[chosen], lse[:, chosen].contiguous()),
                each,
                scores,
            )
            for total, grad, index in zip(totals, grads, (each.queries, each.keys, each.keys), strict=True):
                if index is None:
                    total += grad
                else:
                    total.index_add_(0, index, grad.float())
        return tuple(total.to(x.dtype) for total, x in zip(totals, inputs, strict=True))

    return AttentionKernel(
        name=varlen.name,
        forward=forward,
        backward=backward,
        dtypes=varlen.dtypes,
        head_multiple=varlen.head_multiple,
        longest_head=varlen.longest_head,
        caps=False,
    )


def _taken(rows: Tensor, index: Tensor | None) -> Tensor:
    return rows if index is None else rows.index_select(0, index)


def _weighted(out: Tensor, log_weight: Tensor) -> Tensor:
    """out [Q, H, D] times exp(log_weight [H, Q])."""
    return out * log_weight.exp().t().unsqueeze(-1)
