"""The two halves of the log-prob head around its matrix products: logits -> **probabilities** -> slopes of the loss.

Both work in place, since logits are the largest tensor of a step. Letters: C targets of a chunk, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pangu_rl.accelerators.ops.table import COMPILED, Kernel, Operation, uncompiled, unlike

TILE = 1 << 19
"""Float32 probabilities at once on a processor: they stay in its cache ..."""
DEVICE_TILE = 1 << 26
"""... while a device wants few and large kernels."""


def _softmax(logits: Tensor, targets: Tensor, logp: Tensor, entropy: Tensor, temperature: float) -> Tensor:
    """A few float32 rows at a time."""
    rows = max(1, (TILE if logits.is_cpu else DEVICE_TILE) // logits.shape[1])
    for start in range(0, len(logits), rows):
        here = slice(start, start + rows)
        scores = logits[here].to(torch.float32, copy=True)
        if temperature != 1.0:
            scores.div_(temperature)
        probs = torch.softmax(scores, -1)
        logits[here] = probs
        _read_off(scores, probs, targets[here], logp[here], entropy[here])
    return logits


def _read_off(scores: Tensor, probs: Tensor, target: Tensor, logp: Tensor, entropy: Tensor) -> None:
    """float32 scores and probabilities [R, V] -> `logp` [R] and `entropy` [R], in place; `probs` is consumed."""
    chosen = scores.gather(1, target.unsqueeze(1)).squeeze(1)
    # log sum exp, from the two maxima: torch's own is ten times slower on the CPU than its softmax.
    normaliser = scores.amax(-1) - probs.amax(-1).log()
    torch.sub(chosen, normaliser, out=logp)
    torch.sub(normaliser, probs.mul_(scores).sum(-1), out=entropy)


def _compiled_softmax(logits: Tensor, targets: Tensor, logp: Tensor, entropy: Tensor, temperature: float) -> Tensor:
    torch.ops.pangu_rl.softmax_head(logits, targets, logp, entropy, 1.0 / temperature)
    return logits


def _slopes(probs: Tensor, targets: Tensor, slopes: Tensor, at_target: Tensor) -> Tensor:
    slopes, at_target = (x.to(probs.dtype).unsqueeze(1) for x in (slopes, at_target))
    return probs.mul_(-slopes).scatter_(1, targets.unsqueeze(1), at_target)


def _compiled_slopes(probs: Tensor, targets: Tensor, slopes: Tensor, at_target: Tensor) -> Tensor:
    torch.ops.pangu_rl.softmax_head_backward(probs, targets, slopes, at_target)
    return probs


def _refuses(logits: Tensor, *_: Tensor | float) -> str | None:
    return unlike(logits, dtypes=COMPILED)


def _compiled(call: object) -> dict[str, Kernel]:
    return {"cpu": Kernel(name="compiled", call=call, refuses=_refuses, missing=uncompiled)}


softmax_head_ = Operation("softmax_head_", _softmax, _compiled(_compiled_softmax))
"""(logits [C, V], targets int64 [C], log-probs and entropy float32 [C], temperature) -> the logits as probabilities.

In place; the log-probs and entropies are filled in. All contiguous.
"""

logit_slopes_ = Operation("logit_slopes_", _slopes, _compiled(_compiled_slopes))
"""(probabilities [C, V], targets int64 [C], slopes s and `at_target` float32 [C]) -> -s p, `at_target` at the target.

In place, contiguous.
"""
