"""Sizes -> **bins of bounded capacity** -> packs."""

from __future__ import annotations

from collections.abc import Sequence


def first_fit_decreasing(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of `sizes` in bins of at most `capacity`, O(N log N); an item over the capacity gets a bin of its own.

    At most 11/9 of the optimum plus 6/9 bins (Dosa 2007). Items in a bin, and bins by first item, keep their order.
    """
    if not sizes:
        return []
    leaves = 1 << (len(sizes) - 1).bit_length()
    # A tree of maxima over the room of all possible bins: node k has children 2k and 2k + 1, bin b is leaf leaves + b.
    room = [capacity] * (2 * leaves)
    bins: list[list[int]] = [[] for _ in sizes]
    alone: list[list[int]] = []
    for item in sorted(range(len(sizes)), key=lambda item: -sizes[item]):
        if sizes[item] > capacity:
            alone.append([item])
            continue
        node = 1
        while node < leaves:
            node = 2 * node if room[2 * node] >= sizes[item] else 2 * node + 1
        bins[node - leaves].append(item)
        room[node] -= sizes[item]
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return sorted(sorted(items) for items in alone + bins if items)
