"""Reductions that the losses share: per-token terms [T] or [N, T] -> segment sums [S] -> one number.

Letters: T tokens, N completions, S segments (sequences, samples, packs). Everything is vectorised by `index_add`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["token", "sequence", "sequence_sum"]


def aggregate(
    values: Tensor,
    mask: Tensor,
    *,
    denominator: float,
    aggregation: Aggregation = "token",
    sequence_ids: Tensor | None = None,
) -> Tensor:
    """One micro-batch's share of a global mean; the shares of all micro-batches and ranks add up to it.

    values: float [T] or [N, T]; mask: bool of that shape; sequence_ids: int of that shape, any labels. Without ids the
    rows of [N, T] are the sequences. A sequence must lie in one micro-batch. Returns a scalar that keeps its graph also
    when nothing is masked in, so that `backward` works on an empty pack.

    `token`         sum over tokens / denominator, the loss tokens of the global batch (DAPO, arXiv 2503.14476 eq. 8)
    `sequence`      sum over sequences of their token mean / denominator, the global number of sequences (GRPO,
                    arXiv 2402.03300 eq. 3)
    `sequence_sum`  sum over tokens / denominator, sequences times a constant length (Dr. GRPO, arXiv 2503.20783)
    """
    # `where`, not a product: a padded position may hold NaN or infinity, and 0 * inf is NaN in the gradient too.
    kept = torch.where(mask, values, 0.0)
    if aggregation == "sequence":
        index, count = sequence_index(values, sequence_ids)
        lengths = segment_sum(mask.flatten().to(kept.dtype), index, count)
        total = (segment_sum(kept.flatten(), index, count) / lengths.clamp(min=1)).sum()
    elif aggregation in ("token", "sequence_sum"):
        total = kept.sum()
    else:
        raise ValueError(f"unknown aggregation {aggregation!r}: use token, sequence or sequence_sum")
    # A global batch whose every row was masked has a denominator of 0: its loss is 0, not 0 / 0.
    return total / max(denominator, 1)


def masked_max(values: Tensor, mask: Tensor) -> Tensor:
    """Largest of the non-negative `values` under `mask`; 0 when there is none. Combines over micro-batches by max."""
    return torch.cat([torch.where(mask, values, 0.0).flatten(), values.new_zeros(1)]).max()


def segment_sum(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sums [S] of `values` [T] by `index` int64 [T] in 0..count-1."""
    return values.new_zeros(count).index_add(0, index, values)


def dense_index(labels: Tensor) -> tuple[Tensor, int]:
    """Any int labels [T] -> (index int64 [T] in 0..S-1, S)."""
    present, index = torch.unique(labels, return_inverse=True)
    return index, present.numel()


def rank_in_segment(index: Tensor, counted: Tensor) -> Tensor:
    """How many `counted` tokens of its own segment stand before each token: int64 [T].

    index: int64 [T], segments need not be contiguous; counted: bool [T]. Worked out on the host: not every device sorts
    integers.
    """
    device, index, counted = index.device, index.cpu(), counted.cpu()
    order = torch.argsort(index, stable=True)
    in_order = counted[order].long()
    before = in_order.cumsum(0) - in_order
    sizes = torch.bincount(index)
    starts = sizes.cumsum(0) - sizes
    return torch.empty_like(before).index_copy(0, order, before - before[starts[index[order]]]).to(device)


def sequence_index(values: Tensor, sequence_ids: Tensor | None) -> tuple[Tensor, int]:
    """The sequence of every element of `values` [T] or [N, T]: (index int64 [flat] in 0..S-1, S).

    Without ids the rows of [N, T] are the sequences.
    """
    if sequence_ids is not None:
        return dense_index(sequence_ids.flatten())
    if values.ndim != 2:
        raise ValueError(f"sequences within a flat tensor of shape {tuple(values.shape)} need sequence_ids")
    rows, length = values.shape
    return torch.arange(rows, device=values.device).repeat_interleave(length), rows


def sequence_sums(values: Tensor, sequence_ids: Tensor | None) -> Tensor:
    """[T] or [N, T] -> the same shape: at every token the sum over its sequence, with its gradient."""
    index, count = sequence_index(values, sequence_ids)
    return segment_sum(values.flatten(), index, count)[index].view_as(values)
