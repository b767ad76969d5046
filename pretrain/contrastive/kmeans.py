"""Embeddings of pictures -> **cluster centres -> the nearest few of each picture**, its pseudo-labels.

Mini-batch k-means (Sculley 2010) by cosine, for millions of embeddings and centres: nothing of size N x K exists.
Letters: N embeddings, K centres, D width, L labels of one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pangu_rl.errors import ConfigError

CELLS = 1 << 26
"""Similarities that exist at once."""
ROUNDS = 16
"""In which the first centres are drawn: few enough for millions, and one at a time for a handful."""


def fit_centres(embeddings: Tensor, classes: int, *, passes: int = 10, batch: int = 4096, seed: int = 0) -> Tensor:
    """Unit centres float32 [K, D] of `embeddings` [N, D]; deterministic.

    They start at embeddings that are far from each other (k-means++, in rounds). Each batch moves a centre towards the
    mean of what is nearest to it, by its share of all that the centre has seen. After a pass, a centre that nothing was
    nearest to starts anew at an embedding that its own centre fits worst.

    Raises:
        ConfigError: more classes than embeddings.
    """
    if classes > len(embeddings):
        raise ConfigError(f"{classes} clusters of {len(embeddings)} embeddings: ask for fewer, or embed more pictures")
    generator = torch.Generator().manual_seed(seed)
    points = normalize(embeddings.float(), dim=1)
    centres = points[_first_centres(points, classes, generator)].clone()
    seen = torch.zeros(classes, device=points.device)
    for number in range(passes):
        hits = torch.zeros_like(seen)
        fits = torch.empty(len(points), device=points.device)
        for part in torch.randperm(len(points), generator=generator).split(batch):
            fits[part], nearest = (column[:, 0] for column in _best(points[part], centres, 1))
            count = torch.bincount(nearest, minlength=classes).to(seen.dtype)
            sums = torch.zeros_like(centres).index_add_(0, nearest, points[part])
            hits += count
            seen += count
            moved = count > 0
            rate = (count / seen.clamp(min=1)).unsqueeze(1)
            means = sums / count.clamp(min=1).unsqueeze(1)
            centres[moved] = normalize(centres.lerp(means, rate)[moved], dim=1)
        empty = (hits == 0).nonzero().flatten()
        if number + 1 < passes and len(empty):
            centres[empty] = points[fits.argsort()[: len(empty)]]
            seen[empty] = 0
    return centres


def _first_centres(points: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """Indices [K] of distinct points, each round's drawn by their distance to those of the rounds before."""
    distance = torch.ones(len(points))
    chosen = torch.zeros(0, dtype=torch.int64)
    rounds = min(classes, ROUNDS)
    for number in range(rounds):
        count = classes * (number + 1) // rounds - len(chosen)
        # The smallest of exponential times with rates `distance`: a draw without replacement. Copies come last.
        times = torch.empty(len(points)).exponential_(generator=generator) / distance.clamp(min=1e-9)
        drawn = times.index_fill(0, chosen, torch.inf).topk(count, largest=False).indices
        chosen = torch.cat([chosen, drawn])
        if number + 1 < rounds:
            cosine = _best(points, points[drawn.to(points.device)], 1)[0][:, 0].cpu()
            distance = torch.minimum(distance, 1 - cosine)
    return chosen.to(points.device)


def nearest_classes(embeddings: Tensor, centres: Tensor, labels: int) -> Tensor:
    """The `labels` centres that each embedding is nearest to by cosine, int64 [N, L], the nearest first.

    Raises:
        ConfigError: more labels than centres.
    """
    if labels > len(centres):
        raise ConfigError(f"{labels} labels of {len(centres)} clusters: ask for fewer")
    return _best(normalize(embeddings.float(), dim=1), normalize(centres.float(), dim=1), labels)[1]


def _best(points: Tensor, centres: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cosines and indices [N, count] of the nearest centres."""
    parts = points.split(max(CELLS // len(centres), 1))
    found = [(part @ centres.T).topk(count, dim=1) for part in parts]
    return torch.cat([best.values for best in found]), torch.cat([best.indices for best in found])
