"""Embeddings of pictures -> **cluster centres -> the nearest few of each picture**, its pseudo-labels.

    points, a batch at a time --> every shard of centres: its nearest --> merged --> every shard moves its own

Mini-batch k-means (Sculley 2010) by cosine, for millions of embeddings and centres: nothing of size N x K exists, nor
are all centres in one place. Cosines are worked out a block of centres at a time, and blocks lie in one shard each, so
results are the same to the bit whatever the number of shards. Letters: N embeddings, K centres, D width, L labels of
one, n points of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pangu_rl.errors import ConfigError

BLOCK = 4096
"""Centres whose cosines exist at once."""
BATCH = 4096
"""Points that are compared at once."""
ROUNDS = 16
"""In which the first centres are drawn: few enough for millions, and one at a time for a handful."""

Points = np.ndarray
"""float [N, D], perhaps a mapped file: only the rows of a batch are read at once."""


class CentreShard:
    """Unit centres float32 `first` to `last` of the K."""

    def __init__(self, first: int, last: int, width: int) -> None:
        self._first, self._last = first, last
        self._centres = torch.zeros(last - first, width)
        self._held = 0
        self._seen = torch.zeros(last - first)
        """Points that have moved each centre since it was set."""
        self._hits = torch.zeros(last - first, dtype=torch.bool)

    def hold(self, first: int, centres: Tensor, count: int) -> None:
        """Those of `centres` [k, D], which are number `first` and on of `count`, that lie here."""
        begin, end = max(first, self._first), min(first + len(centres), self._last)
        if begin < end:
            self._centres[begin - self._first : end - self._first] = centres[begin - first : end - first]
        self._held = max(min(count, self._last) - self._first, 0)

    def nearest(self, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Cosines and numbers [n, <= count] of the centres here that each of `points` [n, D] is nearest to, the
        nearest first; of equal ones in several blocks the lower number."""
        best, numbers = points.new_zeros(len(points), 0), torch.zeros(len(points), 0, dtype=torch.int64)
        for begin in range(0, self._held, BLOCK):
            cosines = points @ self._centres[begin : min(begin + BLOCK, self._held)].T
            found = cosines.topk(min(count, cosines.shape[1]), dim=1)
            merged = [(best, numbers), (found.values, found.indices + self._first + begin)]
            best, numbers = merged_nearest(merged, count)
        return best, numbers

    def move(self, points: Tensor, nearest: Tensor) -> None:
        """Each centre here towards the mean of the `points` that it is nearest to, by their share of all that it has
        seen."""
        own = (nearest >= self._first) & (nearest < self._last)
        rows, places, counts = (nearest[own] - self._first).unique(return_inverse=True, return_counts=True)
        sums = points.new_zeros(len(rows), points.shape[1]).index_add_(0, places, points[own])
        self._hits[rows] = True
        self._seen[rows] += counts
        rate = (counts / self._seen[rows]).unsqueeze(1)
        self._centres[rows] = normalize(self._centres[rows].lerp(sums / counts.unsqueeze(1), rate), dim=1)

    def unused(self) -> Tensor:
        """Numbers of the centres that nothing was nearest to since the last call."""
        found = (~self._hits).nonzero().flatten() + self._first
        self._hits.zero_()
        return found

    def restart(self, numbers: Tensor, points: Tensor) -> None:
        """The centres of these `numbers`, as far as they lie here, start anew at `points`."""
        own = (numbers >= self._first) & (numbers < self._last)
        rows = numbers[own] - self._first
        self._centres[rows], self._seen[rows] = points[own], 0.0

    def centres(self) -> Tensor:
        return self._centres


class Shards(Protocol):
    """All shards, in order."""

    def each(self, method: str, *args: Any) -> Sequence[Any]:
        """The method's result on every shard; `args` are the same for all."""


class HereShards:
    """In this process."""

    def __init__(self, classes: int, width: int, shards: int = 1) -> None:
        self._shards = [CentreShard(first, last, width) for first, last in parts_of(classes, shards)]

    def each(self, method: str, *args: Any) -> list[Any]:
        return [getattr(shard, method)(*args) for shard in self._shards]


def parts_of(classes: int, shards: int) -> list[tuple[int, int]]:
    """(first, last) of each shard, in whole blocks; the last may have fewer, or none."""
    each = math.ceil(math.ceil(classes / BLOCK) / shards) * BLOCK
    return [(min(number * each, classes), min((number + 1) * each, classes)) for number in range(shards)]


def merged_nearest(found: Sequence[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """The nearest `count` of several lists, those of lower numbers first."""
    best, numbers = (torch.cat(column, dim=1) for column in zip(*found, strict=True))
    best, order = best.sort(dim=1, descending=True, stable=True)
    return best[:, :count], numbers.gather(1, order)[:, :count]


def fit(shards: Shards, points: Points, classes: int, *, passes: int = 10, batch: int = BATCH, seed: int = 0) -> None:
    """Find the centres of `points` [N, D] in `shards`; deterministic.

    They start at embeddings that are far from each other (k-means++, in rounds). Each batch moves a centre towards the
    mean of what is nearest to it. After a pass, a centre that nothing was nearest to starts anew at an embedding that
    its own centre fits worst. What is held here is 16 bytes a point.

    Raises:
        ConfigError: more classes than embeddings.
    """
    if classes > len(points):
        raise ConfigError(f"{classes} clusters of {len(points)} embeddings: ask for fewer, or embed more pictures")
    generator = torch.Generator().manual_seed(seed)
    _hold(shards, points, _first_centres(shards, points, classes, generator))
    for number in range(passes):
        fits = torch.empty(len(points))
        for part in torch.randperm(len(points), generator=generator).split(batch):
            own = unit(points, part)
            best, nearest = (column[:, 0] for column in _nearest(shards, own, 1))
            fits[part] = best
            shards.each("move", own, nearest)
        empty = torch.cat(list(shards.each("unused")))
        if number + 1 < passes and len(empty):
            worst = fits.topk(len(empty), largest=False).indices
            for numbers, some in zip(empty.split(BLOCK), worst.split(BLOCK), strict=True):
                shards.each("restart", numbers, unit(points, some))


def labels_of(shards: Shards, points: Points, labels: int) -> Iterator[Tensor]:
    """Numbers of the `labels` centres that each point is nearest to, the nearest first: int64 [n, L], by batches."""
    for part in torch.arange(len(points)).split(BATCH):
        yield _nearest(shards, unit(points, part), labels)[1]


def unit(points: Points, numbers: Tensor) -> Tensor:
    """Rows of `points` at unit length, float32 [n, D]."""
    return normalize(torch.from_numpy(points[numbers.numpy()]).float(), dim=1)


def _hold(shards: Shards, points: Points, numbers: Tensor) -> None:
    """Make the points of these `numbers` [k] the centres."""
    for first, some in zip(range(0, len(numbers), BLOCK), numbers.split(BLOCK), strict=True):
        shards.each("hold", first, unit(points, some), len(numbers))


def _nearest(shards: Shards, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    return merged_nearest(shards.each("nearest", points, count), count)


def _first_centres(shards: Shards, points: Points, classes: int, generator: torch.Generator) -> Tensor:
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
            _hold(shards, points, drawn)
            for part in torch.arange(len(points)).split(BATCH):
                cosine = _nearest(shards, unit(points, part), 1)[0][:, 0]
                distance[part] = torch.minimum(distance[part], 1 - cosine)
    return chosen
