"""Packs -> **micro-batches, dealt to the ranks by their work** -> learner.

A pack is a unit of the mathematics (eq. (1) sums within it), a micro-batch is what goes through the model at once, and
ZeRO 2 and 3 communicate at each; so small packs share one, and the loss stays what it was. A step waits for its slowest
rank: what is balanced is the work and not the tokens, since attention grows with the square of a sequence.
Letters: N packs, M targets.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pangu_rl.data.packs.layout import Outline
from pangu_rl.records import Pack, PackLike
from pretrain.packing.balance import deal


def by_tokens(pack: PackLike) -> float:
    """The work of a pack where nothing is known of the model."""
    return float(pack.num_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealing:
    """How the packs of a step come to the ranks (to groups of ranks, where these share packs)."""

    cost: Callable[[PackLike], float] = by_tokens
    """Work of a pack, above 0, in any unit."""
    micro_batch_tokens: int | None = None
    """What packs that share a micro-batch hold together at most; None gives each its own."""
    in_rows: bool = False
    """Whether ranks wait for each other at every micro-batch (ZeRO 2 and 3), not only at the end of the step."""

    def share(self, tokens: Sequence[int], costs: Sequence[float], ranks: int) -> list[list[list[int]]]:
        """Packs of so many `tokens` and `costs` [N] -> [rank][micro-batch] -> numbers of packs.

        Every rank gets as many micro-batches, in falling cost; an empty one is to be filled up. They are as few as
        `micro_batch_tokens` allows, and then as alike in cost as the longest-first rule makes them.
        """
        if self.micro_batch_tokens is None:
            shared = [[number] for number in range(len(tokens))]
        else:
            shared = _merged(tokens, costs, ranks, self.micro_batch_tokens)
        shared += [[]] * (max(ranks, -(-len(shared) // ranks) * ranks) - len(shared))
        loads = np.array([sum(costs[number] for number in packs) for packs in shared], dtype=np.float64)
        return [[shared[index] for index in own] for own in deal(loads, ranks, in_rows=self.in_rows).tolist()]


BY_TOKENS = Dealing()
"""A micro-batch for each pack."""


def merge_packs(packs: Sequence[PackLike]) -> PackLike:
    """One pack of all of them, with the column `pack_ids`: of which of them a target is, 0, 1, ... One is itself.

    Their trees stand side by side as they stood alone, so every log-prob is what it was; a loss that sums within a pack
    tells them apart by the column. Of outlines an outline.
    """
    if len(packs) == 1:
        return packs[0]
    if isinstance(packs[0], Outline):
        return Outline(
            packs=tuple(trees for outline in packs for trees in outline.packs),
            axes=packs[0].axes,
            pictures=tuple(picture for outline in packs for picture in outline.pictures),
        )
    tokens = np.cumsum([0, *(pack.num_tokens for pack in packs)])
    segments = np.cumsum([0, *(len(pack.segment_parents) for pack in packs)])
    columns = {name: np.concatenate([pack.columns[name] for pack in packs]) for name in packs[0].columns}
    numbers = np.arange(len(packs), dtype=np.float32)

    def moved(indices: str) -> np.ndarray:
        return np.concatenate([getattr(pack, indices) + first for pack, first in zip(packs, tokens)])

    return Pack(
        token_ids=np.concatenate([pack.token_ids for pack in packs]),
        position_ids=np.concatenate([pack.position_ids for pack in packs], axis=-1),
        segment_starts=np.concatenate([[0], *(p.segment_starts[1:] + first for p, first in zip(packs, tokens))]),
        segment_parents=np.concatenate(
            [np.where(p.segment_parents < 0, -1, p.segment_parents + first) for p, first in zip(packs, segments)]
        ),
        targets=moved("targets"),
        predictors=moved("predictors"),
        sequence_ids=np.concatenate([pack.sequence_ids for pack in packs]),
        columns=columns | {"pack_ids": np.repeat(numbers, [len(pack.targets) for pack in packs])},
        pictures=tuple(picture for pack in packs for picture in pack.pictures),
        picture_tokens=moved("picture_tokens"),
    )


def _merged(tokens: Sequence[int], costs: Sequence[float], ranks: int, capacity: int) -> list[list[int]]:
    """Numbers of packs in the fewest rows of `ranks` micro-batches that the longest-first rule finds room in."""
    most = -(-len(tokens) // ranks)
    least = -(-sum(min(size, capacity) for size in tokens) // (capacity * ranks))
    rows = bisect_left(
        range(most), True, lo=least, key=lambda rows: _longest_first(tokens, costs, rows * ranks, capacity) is not None
    )
    found = _longest_first(tokens, costs, rows * ranks, capacity) if rows < most else None
    return found or [[number] for number in range(len(tokens))]


def _longest_first(tokens: Sequence[int], costs: Sequence[float], count: int, capacity: int) -> list[list[int]] | None:
    """The costliest pack left goes to the micro-batch of `count` with the least to do; None when a pack finds no room.

    One that lacks room for a pack is closed, so that all of it is O(N log N); an empty one takes a pack of any size.
    """
    shared: list[list[int]] = [[] for _ in range(count)]
    room = [capacity] * count
    least = [(0.0, index) for index in range(count)]
    for number in np.argsort(-np.asarray(costs, dtype=np.float64), kind="stable").tolist():
        while least and shared[least[0][1]] and room[least[0][1]] < tokens[number]:
            heapq.heappop(least)
        if not least:
            return None
        load, index = heapq.heappop(least)
        shared[index].append(number)
        room[index] -= tokens[number]
        heapq.heappush(least, (load + costs[number], index))
    return [sorted(numbers) for numbers in shared if numbers]
