"""One-to-one matching of two small collections: sets of values, sets of boxes."""

from __future__ import annotations

from collections.abc import Sequence


def largest_matching(edges: Sequence[Sequence[bool]]) -> int:
    """How many rows can be paired with a column of their own along true edges, by augmenting paths.

    The most pairs above a threshold, which pairing by the greatest total overlap can miss.
    """
    reach = [sum(1 << column for column, edge in enumerate(row) if edge) for row in edges]
    row_of: dict[int, int] = {}
    return sum(_place(row, reach, row_of) for row in range(len(edges)))


def _place(start: int, reach: Sequence[int], row_of: dict[int, int]) -> bool:
    """Give a row a column, moving others if need be. Breadth first over sets of columns as bits: each is met once."""
    column_of = {row: column for column, row in row_of.items()}
    came_from: dict[int, int] = {}
    unseen = -1
    queue = [start]
    for row in queue:
        columns = reach[row] & unseen
        unseen &= ~columns
        while columns:
            column = columns.bit_length() - 1
            columns ^= 1 << column
            came_from[column] = row
            if column in row_of:
                queue.append(row_of[column])
                continue
            while True:  # back along the path, each row takes the column that led on
                row = came_from[column]
                row_of[column] = row
                if row == start:
                    return True
                column = column_of[row]
    return False
