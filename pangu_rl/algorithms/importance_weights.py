"""Weights that correct for who sampled: learner's minus sampler's log-probs -> **a weight per token** -> the loss.

The sampler differs from the learner by its arithmetic, and with stale rollouts by its weights, which may change within
an answer: every token's log-prob is that of the weights that drew it, so that products over an answer stay right.
Truncation is Yao et al. 2025 ("Your efficient RL framework secretly brings you off-policy RL training"), the mask by
token or sequence Liu et al. 2025 ("When speed kills stability"), the geometric mean that of GSPO.
Letters: N completions, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pangu_rl.algorithms.token_ops import sequence_sums

Level = Literal["token", "sequence", "geometric"]
Outside = Literal["truncate", "mask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Which weight, and what becomes of one that is out of bounds."""

    high: float
    low: float | None = None
    level: Level = "token"
    outside: Outside = "truncate"


def importance_weights(
    difference: Tensor, known: Tensor, correction: Correction, sequence_ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weights, and where they were out of bounds (bool); both of the shape of `difference`, [T] or [N, T].

        token      w = exp(d)                      of each token
        sequence   w = exp(sum of d)               of all tokens of a sequence
        geometric  w = exp(mean of d)              of all tokens of a sequence
        truncate   min(max(w, low), high)          mask   w within [low, high], else 0

    `difference` d is the learner's log-prob before the step minus the sampler's, without gradient, 0 where the latter
    is not `known`. Sequences as in `token_ops.sequence_index`; each lies whole in the call.
    """
    log_weights = difference
    if correction.level != "token":
        log_weights = sequence_sums(difference, sequence_ids)
    if correction.level == "geometric":
        log_weights = log_weights / sequence_sums(known.to(difference.dtype), sequence_ids).clamp(min=1)
    weights = log_weights.exp()
    low = 0.0 if correction.low is None else correction.low
    outside = (weights < low) | (weights > correction.high)
    if correction.outside == "truncate":
        return weights.clamp(low, correction.high), outside
    return torch.where(outside, 0.0, weights), outside
