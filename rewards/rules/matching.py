"""One-to-one matching of two small collections: sets of values, sets of boxes."""

from __future__ import annotations

from collections.abc import Sequence


def largest_matching(edges: Sequence[Sequence[bool]]) -> int:
    """How many rows can be paired with a column of their own along true edges, by augmenting paths.

    The most pairs above a threshold, which pairing by the greatest total overlap can miss.
    """
    row_of: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, edge in enumerate(edges[row]):
            if edge and column not in seen:
                seen.add(column)
                if column not in row_of or place(row_of[column], seen):
                    row_of[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(edges)))
