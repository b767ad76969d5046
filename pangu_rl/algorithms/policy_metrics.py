"""What the losses of GRPO's family say of a micro-batch: ratios, weights -> **additive metrics** -> means per token.

A metric is the sum over a micro-batch's tokens / denominator, 0-dim and without gradient; over packs and ranks they
add up, and names that end in `_max` combine by max. Letters: N completions, T tokens; arguments are [T] or [N, T].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pangu_rl.algorithms.token_ops import aggregate, masked_max

_PER_KNOWN_TOKEN = frozenset({"logprob_diff", "logprob_diff_exp", "sampler_kl"})


@torch.no_grad()
def ratio_metrics(
    ratio: Tensor, log_ratio: Tensor, cut: tuple[Tensor, Tensor], mask: Tensor, denominator: float
) -> dict[str, Tensor]:
    """Of the loss's `ratio`, of the tokens' own `log_ratio`, and of where the clip acts below and above."""
    return {
        "tokens": _share(mask, mask, denominator),
        "clip_fraction_low": _share(cut[0], mask, denominator),
        "clip_fraction_high": _share(cut[1], mask, denominator),
        "ratio": _share(ratio, mask, denominator),
        "ratio_max": masked_max(ratio, mask),
        "kl_old": _share(k3(log_ratio), mask, denominator),
    }


@torch.no_grad()
def mismatch_metrics(difference: Tensor, known: Tensor, denominator: float) -> dict[str, Tensor]:
    """Of `difference`, learner minus sampler, over the tokens whose sampler log-prob is `known`."""
    return {
        "sampler_tokens": _share(known, known, denominator),
        "logprob_diff": _share(difference.abs(), known, denominator),
        "logprob_diff_exp": _share(difference.abs().exp(), known, denominator),
        "logprob_diff_max": masked_max(difference.abs(), known),
        "sampler_kl": _share(k3(difference), known, denominator),
    }


@torch.no_grad()
def weight_metrics(weights: Tensor, outside: Tensor, mask: Tensor, denominator: float) -> dict[str, Tensor]:
    """Of the correction's weights, after their bounds."""
    return {
        "correction_weight": _share(weights, mask, denominator),
        "correction_outside": _share(outside, mask, denominator),
    }


@torch.no_grad()
def kl_metric(kl: Tensor, mask: Tensor, denominator: float) -> Tensor:
    """Of the KL to the reference."""
    return _share(kl, mask, denominator)


def mean_metrics(totals: Mapping[str, float]) -> dict[str, float]:
    """Metrics of `grpo_loss`, added over all packs and ranks of a mini-batch -> means over its trained tokens.

    The denominator cancels, so the means are right for every aggregation, and for packs that leave out the rows whose
    advantage is 0 (the denominator counts those rows, the packs do not hold them).

    `ratio`, `ratio_max`: of the loss, per sequence in GSPO; `clip_fraction_low` (r < 1 - clip_low and A < 0),
    `clip_fraction_high` (r > 1 + clip_high and A > 0): tokens that the clip gives no gradient, in CISPO those whose
    weight it cuts (r > 1 + clip_high); `kl_old`: KL(old || new) by k3. With sampler log-probs, d = learner - sampler:
    `logprob_diff` (mean |d|), `logprob_diff_exp` (mean exp|d|; 1.05 is the alarm of NeMo-RL), `logprob_diff_max`,
    `sampler_kl` (KL(sampler || learner) by k3), and `sampler_nonfinite` (share of tokens whose sampler log-prob is not
    finite; they are outside the other four). With a correction: `correction_weight`, the mean weight, and
    `correction_outside`, the share of tokens whose weight was out of bounds. With a reference:
    `kl_reference`, the KL to it.
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


def k3(log_ratio: Tensor) -> Tensor:
    """KL(q || p) from samples of q, with log_ratio = log p - log q: unbiased and never negative (Schulman 2020)."""
    return log_ratio.expm1() - log_ratio


def _share(values: Tensor, mask: Tensor, denominator: float) -> Tensor:
    return aggregate(values.float(), mask, denominator=denominator)
