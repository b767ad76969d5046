"""Log-probs and entropy from hidden states: base model -> **head and softmax, a chunk at a time** -> objective.

The logits [M, V] of all targets never exist at once: a chunk of [C, V] in the model's dtype does. The last chunk's
probabilities wait for the backward pass (most packs have one chunk), those of the others are computed again; there they
turn into the gradient of the logits in place.
Letters: M targets, C chunk, V vocabulary, E hidden size.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from pangu_rl.accelerators import ops

TILE = 1 << 19
"""Elements at once in float32: capped scores, and on a CPU, where a sum of two dtypes copies, of a gradient."""


def target_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    cap: float | None = None,
    chunk: int = 1024,
) -> tuple[Tensor, Tensor]:
    """(log p of each target, entropy of its distribution), float32 [M] each, of softmax(z / temperature).

    z = hidden weight^T, or cap * tanh(hidden weight^T / cap) of a model that caps its logits. hidden: [M, E]; weight:
    [V, E] of the same dtype; targets: int64 [M]. The entropy carries no gradient. The gradient of `weight` is summed
    over chunks in float32.
    """
    return _TargetLogprobs.apply(hidden, weight, targets, temperature, cap, chunk)


class _TargetLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        cap: float | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        logp = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        entropy, cap_slope, probs = torch.empty_like(logp), torch.ones_like(logp), None
        for span in _spans(len(targets), chunk):
            # The chunk before lets go of its memory first.
            probs = None
            read = logp[span], entropy[span], cap_slope[span]
            probs = _probabilities(torch.mm(hidden[span], weight.t()), targets[span], read, temperature, cap)
        ctx.save_for_backward(hidden, weight, targets, logp, cap_slope)
        ctx.temperature, ctx.cap, ctx.chunk, ctx.last_probs = temperature, cap, chunk, probs
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, grad_logp: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """d log p_t / d logit_v = ((1 if v is t) - p_v) * (the cap's slope at v), over the temperature."""
        hidden, weight, targets, logp, cap_slope = ctx.saved_tensors
        grad_hidden, total = torch.empty_like(hidden), None
        slope = grad_logp / ctx.temperature
        # 1 - p in float32: of a likely token, p alone would round to 1.
        at_target = (-torch.expm1(logp)).mul_(cap_slope) * slope
        probs, ctx.last_probs = ctx.last_probs, None
        spans = _spans(len(targets), ctx.chunk)
        for span in reversed(spans):
            if probs is None:
                logits = torch.mm(hidden[span], weight.t())
                read = tuple(torch.empty_like(logp[span]) for _ in range(3))
                probs = _probabilities(logits, targets[span], read, ctx.temperature, ctx.cap)
            grad_logits = ops.logit_slopes_(probs, targets[span], slope[span], at_target[span])
            torch.mm(grad_logits, weight, out=grad_hidden[span])
            if ctx.needs_input_grad[1]:
                grad = ops.weight_gradient(grad_logits, hidden[span])
                total = grad if len(spans) == 1 else _summed(total, grad)
            # One chunk's at a time.
            probs = grad_logits = grad = None
        if total is None and ctx.needs_input_grad[1]:
            # No target at all: ZeRO still meets the other ranks over this gradient.
            total = torch.zeros_like(weight)
        grad_weight = None if total is None else total.to(weight.dtype)
        return grad_hidden, grad_weight, None, None, None, None


def _summed(total: Tensor | None, grad: Tensor) -> Tensor:
    """float32 total + grad [V, E], in place, a few rows at a time on a CPU; no total is zero."""
    if total is None:
        return grad.float()
    rows = max(1, TILE // grad.shape[1]) if grad.is_cpu else len(grad)
    for into, part in zip(total.split(rows), grad.split(rows), strict=True):
        into.add_(part)
    return total


def _probabilities(
    logits: Tensor, targets: Tensor, read: tuple[Tensor, Tensor, Tensor], temperature: float, cap: float | None
) -> Tensor:
    """logits [C, V] -> probabilities, times the cap's slope where there is a cap; in place.

    `read` is (log-probs, entropy, slope of the cap at the target) [C] each, and is filled; without a cap the last is
    left alone.
    """
    if cap is None:
        return ops.softmax_head_(logits, targets, *read[:2], temperature)
    for here in _spans(len(logits), max(1, TILE // logits.shape[1])):
        scores = logits[here].to(torch.float32, copy=True)
        slopes = _cap_(scores, cap)
        scores.div_(temperature)
        probs = torch.softmax(scores, -1)
        logits[here] = probs * slopes
        at = targets[here].unsqueeze(1)
        logp, entropy, cap_slope = (part[here] for part in read)
        normaliser = scores.logsumexp(-1)
        torch.sub(scores.gather(1, at).squeeze(1), normaliser, out=logp)
        torch.sub(normaliser, probs.mul_(scores).sum(-1), out=entropy)
        cap_slope.copy_(slopes.gather(1, at).squeeze(1))
    return logits


def _cap_(scores: Tensor, cap: float) -> Tensor:
    """scores -> cap * tanh(scores / cap) in place; the derivative, of the same shape."""
    slopes = 1 - scores.div_(cap).tanh_().square()
    scores.mul_(cap)
    return slopes


def _spans(targets: int, chunk: int) -> list[slice]:
    """As few chunks as possible, of sizes that differ by one at most."""
    count = -(-targets // chunk)
    bounds = [targets * part // count for part in range(count + 1)] if count else [0]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
