"""Log-probs and entropy from hidden states: base model -> **head and softmax, a chunk at a time** -> objective.

The logits [M, V] of all targets never exist at once: a chunk of [C, V] in the model's dtype does, and of that only a
few rows in float32. The last chunk's probabilities wait for the backward pass (most packs have one chunk), those of
the others are computed again; there they turn into the gradient of the logits in place.
Letters: M targets, C chunk, V vocabulary, E hidden size.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

TILE = 1 << 19
"""Float32 probabilities at once on a processor: they stay in its cache ..."""
DEVICE_TILE = 1 << 26
"""... while a device wants few and large kernels."""


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
            read = targets[span], logp[span], entropy[span], cap_slope[span]
            probs = _softmax_(hidden[span], weight, temperature, cap, read)
        ctx.save_for_backward(hidden, weight, targets, logp, cap_slope)
        ctx.temperature, ctx.cap, ctx.chunk, ctx.last_probs = temperature, cap, chunk, probs
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, grad_logp: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """d log p_t / d logit_v = ((1 if v is t) - p_v) * (the cap's slope at v), over the temperature."""
        hidden, weight, targets, logp, cap_slope = ctx.saved_tensors
        grad_hidden, total = torch.empty_like(hidden), None
        slope = (grad_logp / ctx.temperature).to(hidden.dtype).unsqueeze(1)
        # 1 - p in float32: of a likely token, p alone would round to 1.
        at_target = (-torch.expm1(logp)).mul_(cap_slope).unsqueeze(1).mul(slope).to(hidden.dtype)
        probs, ctx.last_probs = ctx.last_probs, None
        for span in reversed(_spans(len(targets), ctx.chunk)):
            if probs is None:
                probs = _softmax_(hidden[span], weight, ctx.temperature, ctx.cap)
            grad_logits = probs.mul_(-slope[span]).scatter_(1, targets[span].unsqueeze(1), at_target[span])
            torch.mm(grad_logits, weight, out=grad_hidden[span])
            if ctx.needs_input_grad[1]:
                grad = grad_logits.t().mm(hidden[span])
                total = grad if total is None else total.float().add_(grad)
            probs = grad_logits = None
        if total is None and ctx.needs_input_grad[1]:
            # No target at all: ZeRO still meets the other ranks over this gradient.
            total = torch.zeros_like(weight)
        grad_weight = None if total is None else total.to(weight.dtype)
        return grad_hidden, grad_weight, None, None, None, None


def _softmax_(
    hidden: Tensor,
    weight: Tensor,
    temperature: float,
    cap: float | None,
    read: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """Probabilities times the cap's slope [C, V] of one chunk, in the dtype of `hidden` [C, E], a few float32 rows at a
    time.

    `read` is (targets, log-probs, entropy, slope of the cap at the target) [C] each; the last three are filled.
    """
    logits = torch.mm(hidden, weight.t())
    rows = max(1, (TILE if hidden.is_cpu else DEVICE_TILE) // weight.shape[0])
    for start in range(0, len(logits), rows):
        here = slice(start, start + rows)
        scores = logits[here].to(torch.float32, copy=True)
        slopes = None if cap is None else _cap_(scores, cap)
        if temperature != 1.0:
            scores.div_(temperature)
        probs = torch.softmax(scores, -1)
        logits[here] = probs if slopes is None else probs * slopes
        if read is not None:
            target, logp, entropy, cap_slope = (part[here] for part in read)
            _read_off(scores, probs, target, logp, entropy)
            if slopes is not None:
                cap_slope.copy_(slopes.gather(1, target.unsqueeze(1)).squeeze(1))
    return logits


def _cap_(scores: Tensor, cap: float) -> Tensor:
    """scores -> cap * tanh(scores / cap) in place; the derivative, of the same shape."""
    slopes = 1 - scores.div_(cap).tanh_().square()
    scores.mul_(cap)
    return slopes


def _read_off(scores: Tensor, probs: Tensor, target: Tensor, logp: Tensor, entropy: Tensor) -> None:
    """float32 scores and probabilities [R, V] -> `logp` [R] and `entropy` [R], in place; `probs` is consumed."""
    chosen = scores.gather(1, target.unsqueeze(1)).squeeze(1)
    # log sum exp, from the two maxima: torch's own is ten times slower on the CPU than its softmax.
    normaliser = scores.amax(-1) - probs.amax(-1).log()
    torch.sub(chosen, normaliser, out=logp)
    torch.sub(normaliser, probs.mul_(scores).sum(-1), out=entropy)


def _spans(targets: int, chunk: int) -> list[slice]:
    """As few chunks as possible, of sizes that differ by one at most."""
    count = -(-targets // chunk)
    bounds = [targets * part // count for part in range(count + 1)] if count else [0]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
