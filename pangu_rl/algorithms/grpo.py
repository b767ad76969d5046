"""GRPO without KL and with clip-higher: scores -> **advantages, loss** -> learner.

The advantage is DeepSeekMath's (arXiv 2402.03300, 4.1), the asymmetric clip and the token mean are DAPO's
(arXiv 2503.14476), the centred advantage and the constant length are Dr. GRPO's (arXiv 2503.20783).
Letters: N completions, T tokens, G groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from pangu_rl.algorithms.token_ops import Aggregation, aggregate, masked_max, segment_sum


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
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    denominator: float,
    aggregation: Aggregation = "token",
    sampler_logp: Tensor | None = None,
    tis_cap: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped surrogate of one micro-batch, as its share of the global mean, and additive metrics.

        r = exp(logp - old_logp),   l = -w * min(r * A, clip(r, 1 - clip_low, 1 + clip_high) * A)
        w = min(exp(old_logp - sampler_logp), tis_cap), without gradient; 1 when `tis_cap` is None

    All tensors are float32 of one shape, flat [T] or [N, T]; `mask` bool marks the trained tokens; `advantages` are
    spread over the tokens by the caller. `old_logp` are the learner's log-probs before the first update of the step;
    None says that this is that update, so that r is 1 and the gradient is the policy gradient. `sampler_logp` are the
    engine's log-probs of the same tokens: without `tis_cap` they only feed metrics. w is truncated importance sampling
    (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training").

    `aggregation`, `denominator` and `sequence_ids` as in `token_ops.aggregate`: shares over packs and ranks add up.
    Metrics are 0-dim: sums over this micro-batch's tokens / denominator, to be added over packs and ranks (names that
    end in `_max` combine by max) and then turned into means per token by `mean_metrics`, which names them.
    """
    mask = mask.bool()
    old = logp.detach() if old_logp is None else old_logp
    # Positions outside the mask may hold anything; a zero difference keeps exp() and its gradient finite there.
    log_ratio = torch.where(mask, logp - old, 0.0)
    ratio = log_ratio.exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)

    with torch.no_grad():
        metrics = {
            "tokens": _share(mask, mask, denominator),
            "clip_fraction_low": _share((ratio < 1 - clip_low) & (advantages < 0), mask, denominator),
            "clip_fraction_high": _share((ratio > 1 + clip_high) & (advantages > 0), mask, denominator),
            "ratio": _share(ratio, mask, denominator),
            "ratio_max": masked_max(ratio, mask),
            "kl_old": _share(_k3(log_ratio), mask, denominator),
        }
        if sampler_logp is not None:
            # The engine's top-k or top-p may call a sampled token impossible by rounding (-inf): such a token says
            # nothing of the mismatch, and its weight would be infinite. It is left uncorrected and counted.
            known = mask & sampler_logp.isfinite()
            difference = torch.where(known, old - sampler_logp, 0.0).detach()
            metrics |= _mismatch_metrics(difference, known, denominator)
    if tis_cap is not None:
        if sampler_logp is None:
            raise ValueError(f"tis_cap is {tis_cap} but there are no sampler log-probs to correct by")
        surrogate = surrogate * difference.exp().clamp(max=tis_cap)
        metrics["tis_clipped"] = _share(difference.exp() > tis_cap, known, denominator)
    loss = aggregate(-surrogate, mask, denominator=denominator, aggregation=aggregation, sequence_ids=sequence_ids)
    return loss, metrics


def mean_metrics(totals: Mapping[str, float]) -> dict[str, float]:
    """Metrics of `grpo_loss`, added over all packs and ranks of a mini-batch -> means over its trained tokens.

    The denominator cancels, so the means are right for every aggregation, and for packs that leave out the rows whose
    advantage is 0 (the denominator counts those rows, the packs do not hold them).

    `ratio`, `ratio_max`; `clip_fraction_low` (r < 1 - clip_low and A < 0), `clip_fraction_high` (r > 1 + clip_high and
    A > 0): tokens that the clip gives no gradient; `kl_old`: KL(old || new) by k3. With sampler log-probs, d = learner
    - sampler: `logprob_diff` (mean |d|), `logprob_diff_exp` (mean exp|d|; 1.05 is the alarm of NeMo-RL),
    `logprob_diff_max`, `sampler_kl` (KL(sampler || learner) by k3), `tis_clipped` (share of weights cut at the cap),
    and `sampler_nonfinite` (share of tokens whose sampler log-prob is not finite; they are outside the other five).
    Empty when nothing was trained.
    """
    tokens, known = totals["tokens"], totals.get("sampler_tokens", 0.0)
    if not tokens:
        return {}
    means = {}
    for name, total in totals.items():
        if name.endswith("_max"):
            means[name] = total
        elif name in _PER_KNOWN_TOKEN:
            means[name] = total / known if known else 0.0
        elif name not in ("tokens", "sampler_tokens"):
            means[name] = total / tokens
    if "sampler_tokens" in totals:
        means["sampler_nonfinite"] = 1 - known / tokens
    return means


_PER_KNOWN_TOKEN = frozenset({"logprob_diff", "logprob_diff_exp", "sampler_kl", "tis_clipped"})


def _mismatch_metrics(difference: Tensor, known: Tensor, denominator: float) -> dict[str, Tensor]:
    return {
        "sampler_tokens": _share(known, known, denominator),
        "logprob_diff": _share(difference.abs(), known, denominator),
        "logprob_diff_exp": _share(difference.abs().exp(), known, denominator),
        "logprob_diff_max": masked_max(difference.abs(), known),
        "sampler_kl": _share(_k3(difference), known, denominator),
    }


def _share(values: Tensor, mask: Tensor, denominator: float) -> Tensor:
    return aggregate(values.float(), mask, denominator=denominator)


def _k3(log_ratio: Tensor) -> Tensor:
    """KL(q || p) from samples of q, with log_ratio = log p - log q: unbiased and never negative (Schulman 2020)."""
    return log_ratio.expm1() - log_ratio


def _as_floats(rewards: Tensor | Sequence[float | None]) -> Tensor:
    if isinstance(rewards, Tensor):
        return rewards.detach().cpu()
    return torch.tensor([float("nan") if reward is None else float(reward) for reward in rewards], dtype=torch.float64)


def _group_index(group_ids: Tensor | Iterable[Hashable]) -> tuple[Tensor, int]:
    labels = group_ids.tolist() if isinstance(group_ids, Tensor) else list(group_ids)
    seen: dict[Hashable, int] = {}
    index = [seen.setdefault(label, len(seen)) for label in labels]
    return torch.tensor(index, dtype=torch.int64), len(seen)
