"""Attention over a tree in plain torch, a block of queries at a time: the reference, and for devices without a kernel.

Slow where segments are many, but in linear memory, for any dtype, window and cap, and forward and backward are the
formulas themselves.
Letters: B queries of a block, N keys, H heads, K key-value heads, G = H / K, D head size, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pangu_rl.accelerators.attention.kernel import AttentionKernel, Scores
from pangu_rl.accelerators.attention.segments import Segments

BLOCK = 256


@dataclass(frozen=True, slots=True)
class _Block:
    queries: slice
    keys: Tensor
    """int64 [N], ancestors first, up to the block's last query."""
    hidden: Tensor
    """bool [B, N], the keys that a query does not see."""


def _forward(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scores: Scores) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    lse = torch.empty(query.shape[1], query.shape[0], dtype=torch.float32, device=query.device)
    for block in _blocks(segments, scores.window):
        logits, _ = _scores(query, key, block, scores)
        lse[:, block.queries] = logits.logsumexp(-1).flatten(0, 1)
        probs = logits.softmax(-1)
        out[block.queries] = _to_rows(probs @ _per_head(value, block)).to(out.dtype)
    return out, lse


def _backward(
    grad_out: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    segments: Segments,
    scores: Scores,
) -> tuple[Tensor, Tensor, Tensor]:
    """ds = P (dP - sum(do o)), with P = exp(s - lse) and dP = do v^T; through a cap also times 1 - (s / cap)^2."""
    (query, key, value), (out, lse) = inputs, outputs
    grads = [torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in inputs]
    heads = key.shape[1]
    for block in _blocks(segments, scores.window):
        logits, bend = _scores(query, key, block, scores)
        probs = (logits - lse[:, block.queries].unflatten(0, (heads, -1)).unsqueeze(-1)).exp()
        do, o = (_to_heads(x[block.queries], heads) for x in (grad_out, out))
        slopes = probs * (do @ _per_head(value, block).mT - (do * o).sum(-1, keepdim=True)) * bend * scores.scale
        grads[0][block.queries] = _to_rows(slopes @ _per_head(key, block))
        for total, grad in (
            (grads[1], slopes.mT @ _to_heads(query[block.queries], heads)),
            (grads[2], probs.mT @ do),
        ):
            total.index_add_(0, block.keys, grad.sum(1).transpose(0, 1))
    return tuple(grad.to(x.dtype) for grad, x in zip(grads, inputs, strict=True))


def _blocks(segments: Segments, window: int) -> Iterator[_Block]:
    arange = torch.arange(int(segments.starts[-1]), device=segments.device)
    for segment, length in enumerate(segments.lengths.tolist()):
        start, behind = int(segments.starts[segment]), int(segments.behind[segment])
        before = [arange[segments.starts[a] : segments.starts[a + 1]] for a in segments.ancestors(segment)]
        for first in range(0, length, BLOCK):
            last = min(first + BLOCK, length)
            keys = torch.cat([*before[::-1], arange[start : start + last]])
            distance = arange[behind + first : behind + last, None] - arange[: behind + last]
            hidden = (distance < 0) | (distance >= window) if window else distance < 0
            yield _Block(slice(start + first, start + last), keys, hidden)


def _scores(query: Tensor, key: Tensor, block: _Block, scores: Scores) -> tuple[Tensor, Tensor | float]:
    """float32 [K, G, B, N], -inf where hidden; and the slope of the cap."""
    logits = _to_heads(query[block.queries], key.shape[1]) @ _per_head(key, block).mT * scores.scale
    bend: Tensor | float = 1.0
    if scores.cap:
        logits = scores.cap * torch.tanh(logits / scores.cap)
        bend = 1 - (logits / scores.cap) ** 2
    return logits.masked_fill(block.hidden, -torch.inf), bend


def _to_heads(rows: Tensor, kv_heads: int) -> Tensor:
    """[B, H, D] -> float32 [K, G, B, D]"""
    return rows.float().unflatten(1, (kv_heads, -1)).permute(1, 2, 0, 3)


def _to_rows(x: Tensor) -> Tensor:
    """[K, G, B, D] -> [B, H, D]"""
    return x.permute(2, 0, 1, 3).flatten(1, 2)


def _per_head(rows: Tensor, block: _Block) -> Tensor:
    """[T, K, D] -> float32 [K, 1, N, D] of the block's keys."""
    return rows.index_select(0, block.keys).float().transpose(0, 1).unsqueeze(1)


PLAIN = AttentionKernel(
    name="plain torch",
    forward=_forward,
    backward=_backward,
    dtypes=(torch.bfloat16, torch.float16, torch.float32, torch.float64),
)
