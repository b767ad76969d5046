"""Embeddings of regions -> **the text-aware stage's loss** (RICE, arXiv 2507.20025, eqs. 3 and 4).

Both terms have the form of the cluster loss. An object has one positive, its cluster; a line of text has the tokens of
its text. The margin is on the positives. The paper adds the terms up; each is the mean over its own regions.
"""

from __future__ import annotations

from torch import Tensor

from pangu_rl.config.sections.contrastive import ClusterLossConfig
from pretrain.contrastive.centres import ClassCentres
from pretrain.contrastive.cluster_loss import cluster_loss

RICE = ClusterLossConfig(scale=64.0, margin=0.3, rate=0.1, draw="rice")

Regions = tuple[Tensor, Tensor]
"""Embeddings [R, D] and labels int64 [R, L] of a rank; R may be 0."""


def text_aware_loss(
    objects: Regions,
    lines: Regions,
    clusters: ClassCentres,
    tokens: ClassCentres,
    step: int,
    config: ClusterLossConfig = RICE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Objects against `clusters` and lines of text against `tokens`, added; gradients as in `cluster_loss`.

    Metrics: `objects` and `lines`, the two terms.
    """
    of_objects, _ = cluster_loss(*objects, clusters, config, step)
    of_lines, _ = cluster_loss(*lines, tokens, config, step)
    return of_objects + of_lines, {"objects": of_objects.detach(), "lines": of_lines.detach()}
