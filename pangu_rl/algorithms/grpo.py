"""GRPO with clip-higher, and the loss of its family: scores -> **advantages, loss** -> learner.

The advantage is DeepSeekMath's (arXiv 2402.03300, 4.1), the asymmetric clip and the token mean are DAPO's
(arXiv 2503.14476), the centred advantage and the constant length are Dr. GRPO's (arXiv 2503.20783).
Letters: N completions, T tokens, G groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from pangu_rl.algorithms.cispo import cispo_surrogate
from pangu_rl.algorithms.gspo import sequence_log_ratio
from pangu_rl.algorithms.importance_weights import Correction, importance_weights
from pangu_rl.algorithms.policy_metrics import k3, kl_metric, mismatch_metrics, ratio_metrics, weight_metrics
from pangu_rl.algorithms.token_ops import Aggregation, aggregate, segment_sum

PolicyLoss = Literal["grpo", "gspo", "cispo"]


def group_advantages(
    rewards: Tensor | Sequence[float | None],
    group_ids: Tensor | Iterable[Hashable],
    valid: Tensor | Sequence[bool] | None = None,
    scale: Literal["std", "none"] = "std",
    eps: float = 1e-6,
) -> Tensor:
    """A_i = (r_i - mean of its group) / (std of its group + eps), float32 [N], on the CPU.

    rewards [N]; group_ids [N], any labels in any order, groups of any size; valid bool [N], all when absent. The std is
    unbiased (n - 1); `scale="none"` only centres. Rows that are not valid, or whose reward is None, NaN or infinite,
    leave the statistics and get 0. Groups without variance, and groups of one valid row, get exactly 0.
    """
    if scale not in ("std", "none"):
        raise ValueError(f"unknown scale {scale!r}: use std or none")
    # Through float32, so that the same parts added in another order (0.1 + 0.2 and 0.3) are the same reward; and on in
    # float64, where n equal float32 values have an exact sum and mean, so that r - mean is exactly 0 and not one bit.
    reward = _as_floats(rewards).to(torch.float32).to(torch.float64)
    flags = torch.ones(len(reward), dtype=torch.bool) if valid is None else torch.as_tensor(valid, dtype=torch.bool)
    index, groups = _group_index(group_ids)
    if not len(index) == len(reward) == len(flags):
        raise ValueError(f"{len(reward)} rewards, {len(index)} group ids and {len(flags)} valid flags must be as many")
    counted = flags.cpu() & reward.isfinite()

    known = torch.where(counted, reward, 0.0)
    size = segment_sum(counted.to(torch.float64), index, groups)
    centred = known - (segment_sum(known, index, groups) / size.clamp(min=1))[index]
    squares = torch.where(counted, centred.square(), 0.0)
    std = (segment_sum(squares, index, groups) / (size - 1).clamp(min=1)).sqrt()
    advantage = centred / (std[index] + eps) if scale == "std" else centred
    return torch.where(counted, advantage, 0.0).to(torch.float32)


def grpo_loss(
    logp: Tensor,
    old_logp: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    sequence_ids: Tensor | None = None,
    loss: PolicyLoss = "grpo",
    clip_low: float | None = 0.2,
    clip_high: float = 0.28,
    denominator: float,
    aggregation: Aggregation = "token",
    sampler_logp: Tensor | None = None,
    correction: Correction | None = None,
    reference_logp: Tensor | None = None,
    kl_weight: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped surrogate of one micro-batch, as its share of the global mean, and additive metrics.

        r = exp(logp - old_logp),   l = -w * min(r * A, clip(r, 1 - clip_low, 1 + clip_high) * A) + kl_weight * K

    `loss` takes another ratio (`gspo`) or another surrogate (`cispo`, which has no `clip_low`) in its place. w is the
    weight of `importance_weights` by `correction`, without gradient; 1 when that is None. K is the KL to a reference
    model, `reference_kl`, of the log-probs `reference_logp`; without them there is none.

    All tensors are float32 of one shape, flat [T] or [N, T]; `mask` bool marks the trained tokens; `advantages` are
    spread over the tokens by the caller. `old_logp` are the learner's log-probs before the first update of the step;
    None says that this is that update, so that r is 1 and the gradient is the policy gradient. `sampler_logp` are the
    engine's log-probs of the same tokens, under whatever weights drew them: without `correction` they only feed
    metrics.

    `aggregation`, `denominator` and `sequence_ids` as in `token_ops.aggregate`: shares over packs and ranks add up.
    Metrics are 0-dim, to be added over packs and ranks and turned into means by `policy_metrics.mean_metrics`.
    """
    mask = mask.bool()
    old = logp.detach() if old_logp is None else old_logp
    # Positions outside the mask may hold anything; zeros there keep exp() and the gradients of whole sequences finite.
    log_ratio, advantages = torch.where(mask, logp - old, 0.0), torch.where(mask, advantages, 0.0)
    ratio = (sequence_log_ratio(log_ratio, mask, sequence_ids) if loss == "gspo" else log_ratio).exp()
    if loss == "cispo":
        surrogate, low, high = cispo_surrogate(ratio, torch.where(mask, logp, 0.0), advantages, clip_high)
    else:
        surrogate, low, high = clipped_surrogate(ratio, advantages, clip_low, clip_high)
    metrics = ratio_metrics(ratio, log_ratio, (low, high), mask, denominator)
    if sampler_logp is not None:
        # The engine's top-k or top-p may call a sampled token impossible by rounding (-inf): such a token says
        # nothing of the mismatch, and its weight would be infinite. It is left uncorrected and counted.
        known = mask & sampler_logp.isfinite()
        difference = torch.where(known, old - sampler_logp, 0.0).detach()
        metrics |= mismatch_metrics(difference, known, denominator)
    if correction is not None:
        if sampler_logp is None:
            raise ValueError(f"there are no sampler log-probs for the {correction.level} correction to correct by")
        weights, outside = importance_weights(difference, known, correction, sequence_ids)
        surrogate = surrogate * weights
        metrics |= weight_metrics(weights, outside, mask, denominator)
    losses = -surrogate
    if reference_logp is not None:
        kl = reference_kl(torch.where(mask, logp - reference_logp, 0.0), log_ratio.exp())
        losses = losses + kl_weight * kl
        metrics["kl_reference"] = kl_metric(kl, mask, denominator)
    value = aggregate(losses, mask, denominator=denominator, aggregation=aggregation, sequence_ids=sequence_ids)
    return value, metrics


def clipped_surrogate(
    ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor, Tensor]:
    """min(r A, clip(r) A), and where the clip takes the gradient below and above (bool): all of the tokens' shape."""
    low, high = 1 - clip_low, 1 + clip_high
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
    return surrogate, (ratio < low) & (advantages < 0), (ratio > high) & (advantages > 0)


def reference_kl(log_ratio: Tensor, ratio: Tensor) -> Tensor:
    """r k3(log pi_ref - log pi) of each token, with its gradient: KL(pi || pi_ref) of tokens that pi_old drew.

    `log_ratio` is log pi - log pi_ref, `ratio` r = pi / pi_old. The factor makes estimate and gradient unbiased, the
    latter also at r = 1, where that of k3 alone is another divergence's (DeepSeek-V3.2, arXiv 2512.02556, 3.1).
    """
    return ratio * k3(-log_ratio)


def _as_floats(rewards: Tensor | Sequence[float | None]) -> Tensor:
    if isinstance(rewards, Tensor):
        return rewards.detach().cpu()
    return torch.tensor([float("nan") if reward is None else float(reward) for reward in rewards], dtype=torch.float64)


def _group_index(group_ids: Tensor | Iterable[Hashable]) -> tuple[Tensor, int]:
    labels = group_ids.tolist() if isinstance(group_ids, Tensor) else list(group_ids)
    seen: dict[Hashable, int] = {}
    index = [seen.setdefault(label, len(seen)) for label in labels]
    return torch.tensor(index, dtype=torch.int64), len(seen)
