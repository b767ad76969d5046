"""Lengths and visual loads -> **packs** that are full and equally heavy for the encoder.

Packs are filled one after another. The largest sample left opens a pack; then samples of the visual density that the
rest of the pack still needs follow, each the longest of its kind that fits; and for the last tokens whatever fits best.
Kinds are classes of visual density. In each, the lengths that are left stand in a sorted list, so a sample costs a
binary search per class: O(N log C) for a capacity of C tokens, whatever the number of packs.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

CLASSES = 15
"""Of samples with pictures, by quantiles of their density; text is a class of its own."""
CLOSING = 0.01
"""For this last part of a pack only the fit counts: what it adds to the visual load hardly matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What is packed; arrays are [N]."""

    tokens: np.ndarray
    """int64, from 1 to the capacity."""
    visual_tokens: np.ndarray
    """int64, at most the visual capacity."""
    visual_flops: np.ndarray
    """float64"""


@dataclass(frozen=True, slots=True)
class Packs:
    """A partition: pack p holds `members[starts[p] : starts[p + 1]]`."""

    members: np.ndarray
    """int64 [N], indices of samples."""
    starts: np.ndarray
    """int64 [P + 1]"""

    def sums(self, values: np.ndarray) -> np.ndarray:
        """`values` [N] of the samples added up in each pack -> [P]."""
        return np.add.reduceat(values[self.members], self.starts[:-1]) if len(self.members) else values[:0]


def best_fit(samples: Samples, capacity: int, visual_capacity: int | None = None) -> Packs:
    """Pack every sample once, none of them cut, into packs of at most `capacity` tokens.

    The encoder FLOPs of a pack come as near as its samples allow to those that all samples left have on average per
    token, times the capacity. `visual_capacity` is a hard limit on a pack's visual tokens. Deterministic: samples that
    are alike are taken from the last to the first.
    """
    classes = _classes(samples)
    limit = capacity if visual_capacity is None else visual_capacity
    length, weight = samples.tokens.tolist(), samples.visual_tokens.tolist()
    load = samples.visual_flops.tolist()
    tokens_left, load_left = int(samples.tokens.sum()), float(samples.visual_flops.sum())
    closing = int(CLOSING * capacity)
    members: list[int] = []
    starts = [0]
    while len(members) < len(length):
        room, visual_room = capacity, limit
        target = load_left / tokens_left * capacity
        chosen = _largest(classes, load, capacity, target)
        while chosen is not None:
            item = chosen.take()
            members.append(item)
            room -= length[item]
            visual_room -= weight[item]
            target -= load[item]
            tokens_left -= length[item]
            load_left -= load[item]
            chosen = _next(classes, load, (room, visual_room), None if room <= closing else target / room)
        starts.append(len(members))
    return Packs(np.array(members, dtype=np.int64), np.array(starts, dtype=np.int64))


class _Class:
    """Samples of like visual density, by length."""

    __slots__ = ("bottoms", "items", "lengths", "slot", "tops", "visual_rate")

    def __init__(self, items: np.ndarray, samples: Samples) -> None:
        tokens = samples.tokens[items]
        ordered = np.argsort(tokens, kind="stable")
        lengths, bottoms, counts = np.unique(tokens[ordered], return_index=True, return_counts=True)
        self.items = items[ordered].tolist()
        self.lengths = lengths.tolist()
        """Ascending, those of which a sample is left."""
        self.bottoms = bottoms.tolist()
        self.tops = (bottoms + counts).tolist()
        """The samples left of the i-th length are `items[bottoms[i] : tops[i]]`."""
        self.visual_rate = float((samples.visual_tokens[items] / tokens).max())
        """No sample has more visual tokens per token: what a visual capacity is turned into a length by."""
        self.slot = 0
        """The length that `take` takes."""

    def take(self) -> int:
        slot = self.slot
        self.tops[slot] = top = self.tops[slot] - 1
        if top == self.bottoms[slot]:
            del self.lengths[slot], self.bottoms[slot], self.tops[slot]
        return self.items[top]


def _classes(samples: Samples) -> list[_Class]:
    density = samples.visual_flops / samples.tokens
    visual = density[density > 0]
    edges = np.unique(np.quantile(visual, np.arange(1, CLASSES) / CLASSES)) if len(visual) else []
    kind = np.where(density > 0, 1 + np.searchsorted(edges, density), 0)
    return [_Class(np.flatnonzero(kind == number), samples) for number in np.unique(kind)]


def _largest(classes: list[_Class], load: list[float], capacity: int, target: float) -> _Class | None:
    """The class whose longest sample takes the greatest part of the tokens or of the visual load of a pack."""
    best, chosen = -1.0, None
    for kind in classes:
        if kind.lengths:
            kind.slot = len(kind.lengths) - 1
            item = kind.items[kind.tops[-1] - 1]
            size = max(kind.lengths[-1] / capacity, load[item] / target if target > 0 else 0.0)
            if size > best:
                best, chosen = size, kind
    return chosen


def _next(classes: list[_Class], load: list[float], room: tuple[int, int], density: float | None) -> _Class | None:
    """The class whose longest fitting sample is nearest to `density`, or simply the longest if that is None.

    `room` is what is left of the pack in tokens and in visual tokens. None when nothing fits.
    """
    best, chosen = float("inf"), None
    for kind in classes:
        longest = room[0]
        if kind.visual_rate * longest > room[1]:
            longest = int(room[1] / kind.visual_rate)
        slot = bisect_right(kind.lengths, longest) - 1
        if slot < 0:
            continue
        length = kind.lengths[slot]
        distance = -length if density is None else abs(load[kind.items[kind.tops[slot] - 1]] / length - density)
        if distance < best:
            best, chosen, kind.slot = distance, kind, slot
    return chosen
