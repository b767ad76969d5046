"""The supervised loss: per-token losses of packs -> **eq. (1) of openPangu-VL** -> learner.

The plain token mean of pre-training is its special case lambda_token=1, lambda_sample=0, tau_order=0, tau_magnitude=0.
Letters: T tokens, J samples, P packs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pangu_rl.algorithms.token_ops import dense_index, rank_in_segment, segment_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceReading:
    """Where the paper leaves eq. (1) open: the reading that is taken."""

    order: Literal["supervised", "all"] = "supervised"
    """The i of w_ord counts from 0 over the supervised tokens of the sample, or over all its tokens that are given."""
    magnitude: Literal["literal", "centred"] = "literal"
    """w_mag as printed, 2 * sigmoid(tau * loss - 0.5), in (0.755, 2); or 2 * (sigmoid(tau * loss) - 0.5), in [0, 1),
    the range of w_ord."""
    detach_weights: bool = True
    """False lets the gradient through w_mag; then a lower loss also lowers its own weight."""


def balanced_loss(
    token_losses: Tensor,
    sample_ids: Tensor,
    mask: Tensor,
    *,
    pack_ids: Tensor | None = None,
    lambda_token: float = 0.5,
    lambda_sample: float = 0.5,
    tau_order: float = 0.1,
    tau_magnitude: float = 2.0,
    denominators: tuple[float, float] | None = None,
    reading: BalanceReading = BalanceReading(),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. (1): within a pack of J samples, over supervised tokens i of sample j with loss l and weight w,

        L_t = sum_j sum_i w l / sum_j sum_i w        L_s = 1/J sum_j (sum_i w l / sum_i w)
        L = lambda_token L_t + lambda_sample L_s     w = 1 / ln(e + tau_order i) + 2 sigmoid(tau_magnitude l - 0.5)

    token_losses: float32 [T], -log p of each token; sample_ids: int [T], unique within a pack; mask: bool [T], the
    supervised tokens; pack_ids: int [T], one pack when absent. A sample without a supervised token is not counted in J.

    The paper speaks of one pack. Without `denominators` the result is the mean over the packs of this call. With
    `denominators`, the supervised (tokens, samples) of the global batch, a pack's L_t weighs as its share of the tokens
    and its L_s as its share of the samples: results then add up over calls and ranks, L_s is the mean over the batch's
    samples however they are packed, and with constant weights L_t is the exact token mean of the batch.

    Metrics are 0-dim and add up as the loss does: `nll` (plain token mean), `loss_token` and `loss_sample` (L_t, L_s).
    """
    mask = mask.bool()
    pack, pack_count = dense_index(torch.zeros_like(sample_ids) if pack_ids is None else pack_ids)
    label, labels = dense_index(sample_ids)
    sample, samples = dense_index(pack * labels + label)

    losses = torch.where(mask, token_losses, 0.0)
    order = rank_in_segment(sample, mask if reading.order == "supervised" else torch.ones_like(mask)).to(losses.dtype)
    weights = torch.where(
        mask, _order_weight(order, tau_order) + _magnitude_weight(losses, tau_magnitude, reading), 0.0
    )

    # Empty samples and packs have no weight at all: their 0 / 1 is 0, and they are counted nowhere.
    sample_means = _ratio(segment_sum(weights * losses, sample, samples), segment_sum(weights, sample, samples))
    pack_means = _ratio(segment_sum(weights * losses, pack, pack_count), segment_sum(weights, pack, pack_count))
    counted = mask.to(losses.dtype)
    pack_tokens = segment_sum(counted, pack, pack_count)
    supervised = (segment_sum(counted, sample, samples) > 0).to(losses.dtype)
    pack_of_sample = sample.new_zeros(samples).index_copy(0, sample, pack)
    pack_samples = segment_sum(supervised, pack_of_sample, pack_count)

    if denominators is None:
        present = (pack_tokens > 0).to(losses.dtype)
        token_share = present / present.sum().clamp(min=1)
        sample_share = token_share[pack_of_sample] / pack_samples[pack_of_sample].clamp(min=1)
        all_tokens: Tensor | float = counted.sum().clamp(min=1)
    else:
        all_tokens, all_samples = (max(count, 1) for count in denominators)
        token_share = pack_tokens / all_tokens
        sample_share = supervised / all_samples
    loss_token = (token_share * pack_means).sum()
    loss_sample = (sample_share * sample_means).sum()
    metrics = {"nll": losses.sum() / all_tokens, "loss_token": loss_token, "loss_sample": loss_sample}
    return lambda_token * loss_token + lambda_sample * loss_sample, {k: v.detach() for k, v in metrics.items()}


def _order_weight(order: Tensor, tau: float) -> Tensor:
    """1 / ln(e + tau i). The printed "ln(e + tau i)^-1" must be the reciprocal: ln of the inverse is negative."""
    return 1 / (math.e + tau * order).log()


def _magnitude_weight(losses: Tensor, tau: float, reading: BalanceReading) -> Tensor:
    losses = losses.detach() if reading.detach_weights else losses
    if reading.magnitude == "literal":
        return 2 * torch.sigmoid(tau * losses - 0.5)
    return 2 * (torch.sigmoid(tau * losses) - 0.5)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return numerator / torch.where(denominator > 0, denominator, 1.0)


def square_averaged_loss(
    token_losses: Tensor, sample_ids: Tensor, mask: Tensor, *, denominator: float | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """InternVL's square averaging (arXiv 2412.05271): a token of a sample with n supervised ones weighs 1 / sqrt(n),

        L = sum_j sum_i l / sqrt(n_j) / sum_j sqrt(n_j)

    between the token mean, where long answers rule, and the sample mean, where short ones do. Arguments as in
    `balanced_loss`, a sample whole; `denominator` is sum_j sqrt(n_j) over the global batch, by default that of this
    call. Metrics: `roots`, this call's share of the denominator.
    """
    mask = mask.bool()
    index, count = dense_index(sample_ids)
    lengths = segment_sum(mask.to(token_losses.dtype), index, count)
    sums = segment_sum(torch.where(mask, token_losses, 0.0), index, count)
    roots = lengths.sqrt().sum()
    total = roots.clamp(min=1) if denominator is None else max(denominator, 1)
    return (sums / lengths.clamp(min=1).sqrt()).sum() / total, {"roots": (roots / total).detach()}
