"""What is said against what is there, one to one -> **a share from 0 to 1**, in which saying too much costs."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.rules.matching import largest_matching

EXTRA_COST = 0.5
"""Of a shape, for each one that matches nothing: shapes all over the picture earn nothing."""


def matched_overlap(overlaps: Sequence[Sequence[float]], said: int, threshold: float) -> float:
    """Mean over the gold shapes (rows) of the overlap with the one of `said` shapes (columns) that is theirs, the
    nearest pair first; a pair below `threshold` is none.

    Example: overlaps of 0.9 and 0.4 with two golds and a third shape beside them earn (0.9 - 2 * 0.5) / 2, so 0.
    """
    pairs = [(overlap, i, j) for i, row in enumerate(overlaps) for j, overlap in enumerate(row)]
    free, unused = set(range(len(overlaps))), set(range(said))
    total = 0.0
    for overlap, i, j in sorted(pairs, reverse=True):
        if overlap >= threshold and i in free and j in unused:
            free.remove(i)
            unused.remove(j)
            total += overlap
    return max(0.0, total - EXTRA_COST * len(unused)) / len(overlaps)


def matched_share(edges: Sequence[Sequence[bool]], said: int) -> float:
    """Share of the golds (rows) that one of the `said` shapes (columns) hits for itself, less what superfluous ones
    cost."""
    right = largest_matching(edges)
    return max(0.0, right - EXTRA_COST * (said - right)) / len(edges)
