"""Embeddings and labels -> **multi-label cluster discrimination** (MLCD, arXiv 2407.17331, eq. 5).

For a sample with positives P and drawn negatives N', s = scale * cos(embedding, centre):

    L = log(1 + sum_{i in P} exp(-s_i)) + log(1 + sum_{j in N'} exp(s_j))

The centres are sharded over the ranks; the two sums are added up over them apart, each with its own largest term taken
out. Letters: N samples of a rank, B of all ranks, L labels of one, D width, C drawn classes of a rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pangu_rl.accelerators.gather import gather_counts, gather_rows
from pangu_rl.config.sections.contrastive import ClusterLossConfig
from pangu_rl.errors import DataError
from pretrain.contrastive.centres import ClassCentres
from pretrain.contrastive.draw import NONE, draw_negatives, places_of


def cluster_loss(
    embeddings: Tensor, labels: Tensor, centres: ClassCentres, config: ClusterLossConfig, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over the global batch, the same on every rank; metrics `negatives` (mean of a sample) and `positive_cosine`.

    embeddings: [N, D] of this rank, of any length; labels: int64 [N, L], positives of each, `NONE` where there are
    fewer, one that is repeated counts once. Every rank calls it at every step; N and L may differ and N may be 0.

    The gradient of `embeddings` is whole, so an encoder's parameters are *summed* over the ranks; that of the centres
    is whole on the rank that holds them.

    Raises:
        DataError: a sample without a positive, or a label that is no class.
    """
    _check(labels, centres.classes)
    if torch.is_grad_enabled() and not embeddings.requires_grad:
        # The others' backward pass waits for this rank's part in theirs, also where none of its samples is of a kind.
        embeddings = embeddings.detach().requires_grad_()
    counts = gather_counts(len(embeddings), embeddings.device, centres.group)
    longest = max(gather_counts(labels.shape[1], embeddings.device, centres.group))
    labels = torch.nn.functional.pad(labels, (0, longest - labels.shape[1]), value=NONE)
    labels = _without_repetition(gather_rows(labels, counts, centres.group))
    unit = torch.nn.functional.normalize(gather_rows(embeddings, counts, centres.group), dim=1)

    drawn = draw_negatives(labels, centres.classes, config, step)
    places = torch.arange(len(drawn.classes), device=labels.device)
    local = centres.holds(drawn.classes)
    columns, places = drawn.classes[local], places[local]
    own = _own_columns(labels, columns)
    left_out = own | (places >= drawn.cutoff.unsqueeze(1))
    negative = config.scale * _cosines(unit, centres, columns)
    negative = negative.masked_fill(left_out, -torch.inf)

    rows, slots = centres.holds(labels).nonzero(as_tuple=True)
    cosine = (unit[rows] * _unit_centres(centres, labels[rows, slots])).sum(1).clamp(-1, 1)
    positive = unit.new_full(labels.shape, -torch.inf).index_put(
        (rows, slots), -config.scale * _widened(cosine, config)
    )

    total = _LogOnePlusSumExp.apply(positive, centres) + _LogOnePlusSumExp.apply(negative, centres)
    count = max(len(labels), 1)
    sums = torch.stack([(~left_out).sum().to(unit.dtype), cosine.detach().sum()])
    sums = _summed(sums, centres)
    known = (labels != NONE).sum().clamp(min=1)
    return total.sum() / count, {"negatives": sums[0] / count, "positive_cosine": sums[1] / known}


def _unit_centres(centres: ClassCentres, classes: Tensor) -> Tensor:
    return torch.nn.functional.normalize(centres.rows(classes), dim=1)


def _cosines(unit: Tensor, centres: ClassCentres, classes: Tensor) -> Tensor:
    """[B, C]"""
    return (unit @ _unit_centres(centres, classes).T).clamp(-1, 1)


def _widened(cosine: Tensor, config: ClusterLossConfig) -> Tensor:
    """cos(angle + margin), the margin of ArcFace."""
    if not config.margin:
        return cosine
    # The slope of the angle is infinite at both ends.
    edge = 1 - torch.finfo(cosine.dtype).eps
    return (cosine.clamp(-edge, edge).acos() + config.margin).cos()


def _own_columns(labels: Tensor, columns: Tensor) -> Tensor:
    """bool [B, C]: which of `columns` are positives of a sample themselves."""
    places = places_of(labels, columns)
    own = torch.zeros(len(labels), len(columns) + 1, dtype=torch.bool, device=labels.device)
    return own.scatter_(1, places, True)[:, : len(columns)] if len(columns) else own[:, :0]


def _without_repetition(labels: Tensor) -> Tensor:
    ordered = labels.cpu().sort(1).values
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(repeated, NONE).to(labels.device)


def _summed(values: Tensor, centres: ClassCentres) -> Tensor:
    if centres.ranks > 1:
        dist.all_reduce(values, group=centres.group)
    return values


def _check(labels: Tensor, classes: int) -> None:
    strange = (labels != NONE) & ((labels < 0) | (labels >= classes))
    if strange.any():
        raise DataError(f"label {int(labels[strange][0])}: the classes are 0 to {classes - 1}")
    if (bare := (labels == NONE).all(1)).any():
        raise DataError(f"sample {int(bare.nonzero()[0])} of the batch has no label: leave it out")


class _LogOnePlusSumExp(torch.autograd.Function):
    """log(1 + sum over all ranks' columns of exp(x)) of rows x -> [B], without overflow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, centres: ClassCentres) -> Tensor:
        largest = x.amax(1).clamp(min=0) if x.shape[1] else x.new_zeros(len(x))
        if centres.ranks > 1:
            dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=centres.group)
        total = _summed((x - largest.unsqueeze(1)).exp().sum(1), centres)
        result = largest + (total + (-largest).exp()).log()
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, result = ctx.saved_tensors
        return gradient.unsqueeze(1) * (x - result.unsqueeze(1)).exp(), None
