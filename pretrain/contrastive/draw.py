"""Labels of a global batch -> **which classes are negatives of which sample** at one step.

A function of seed and step over all classes, so that every number of ranks draws the same.
Letters: B samples, L labels of one, K classes, C classes drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pangu_rl.config.sections.contrastive import ClusterLossConfig

NONE = -1
"""Fills the rows of labels that have fewer than the longest."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Class c at place j is a negative of sample i if j < cutoff[i] and c is no positive of i."""

    classes: Tensor
    """int64 [C], in the order in which they were drawn."""
    cutoff: Tensor
    """int64 [B]"""


def draw_negatives(labels: Tensor, classes: int, config: ClusterLossConfig, step: int) -> Draw:
    """`labels`: int64 [B, L] positives of the global batch, `NONE` where a sample has fewer, none twice in a row.
    The draw is on their device, and worked out on the host: not every device sorts integers, or has float64.

    Under `mlcd` and `rice` a sample's negatives are the first of one random order that are not its own: exactly as many
    as its share, and uniform without replacement among them.
    """
    device, labels = labels.device, labels.cpu()
    drawn = _drawn(labels, classes, config, np.random.default_rng((config.seed, step)))
    return Draw(drawn.classes.to(device), drawn.cutoff.to(device))


def places_of(labels: Tensor, drawn: Tensor) -> Tensor:
    """Where in `drawn` [C] each of `labels` [B, L] stands, int64 [B, L]; C for one that was not drawn."""
    if not len(drawn):
        return torch.zeros_like(labels)
    device, labels = labels.device, labels.cpu().contiguous()
    ordered, where = drawn.cpu().sort()
    found = torch.searchsorted(ordered, labels).clamp(max=len(drawn) - 1)
    return torch.where(ordered[found] == labels, where[found], len(drawn)).to(device)


def _drawn(labels: Tensor, classes: int, config: ClusterLossConfig, random: np.random.Generator) -> Draw:
    positives = (labels != NONE).sum(1)
    # floor(0.1 * 30) must be 3, whatever 0.1 is in binary.
    share = _floor(config.rate, torch.full_like(positives, classes))
    if config.draw == "partial_fc":
        return _with_all_positives(labels, classes, int(share[0]) if len(share) else 0, random)
    others = classes - positives
    wanted = _floor(config.rate, others) if config.draw == "mlcd" else torch.minimum(share, others)
    longest = int((wanted + positives).max()) if len(labels) else 0
    order = torch.from_numpy(random.choice(classes, min(longest, classes), replace=False))
    return Draw(order, _cutoffs(places_of(labels, order), wanted))


def _cutoffs(own: Tensor, wanted: Tensor) -> Tensor:
    """How far to read so that `wanted` [B] classes are not among those at the places `own` [B, L]."""
    cutoff = wanted.clone()
    for place in own.sort(1).values.unbind(1):
        cutoff += place < cutoff
    return cutoff


def _with_all_positives(labels: Tensor, classes: int, size: int, random: np.random.Generator) -> Draw:
    positives = labels[labels != NONE].unique()
    others = torch.from_numpy(random.choice(classes, size, replace=False))
    others = others[~torch.isin(others, positives)]
    drawn = torch.cat([positives, others[: max(size - len(positives), 0)]])
    return Draw(drawn, torch.full_like(labels[:, 0], len(drawn)))


def _floor(rate: float, counts: Tensor) -> Tensor:
    return (counts.double() * rate + 1e-9).floor().long()
