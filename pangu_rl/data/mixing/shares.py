"""Shares by source -> **how many times an epoch has each row**. Rows of a stage -> rows of an epoch.

The source that has most for its share comes once; of the others every row comes once or more, the last time only some
of them, evenly over the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from pangu_rl.errors import ConfigError


def times_by_source(shares: Mapping[str, float], have: Mapping[str, float], where: str) -> dict[str, float]:
    """Times, at least 1, of each source with a share; sources `have` so many samples, or tokens.

    Raises:
        ConfigError: rows of a source without a share, or a share of a source without rows; `where` names the rows.
    """
    if strange := sorted(set(have) - set(shares)):
        raise ConfigError(
            f"{where} has rows of source {strange[0]!r}, which data.shares does not name: give it a share, or 0 to "
            "leave it out"
        )
    if empty := sorted(name for name, share in shares.items() if share and not have.get(name)):
        raise ConfigError(f"data.shares.{empty[0]} is {shares[empty[0]]:g}, but {where} has no row of that source")
    rates = {name: share / have[name] for name, share in shares.items() if share}
    return {name: rate / min(rates.values()) for name, rate in rates.items()}


class RepeatedRows(Sequence[int]):
    """Row numbers of several sources, those of each so many times; no list of them is held."""

    def __init__(self, parts: Sequence[tuple[Sequence[int], float]]) -> None:
        """Rows with their times, at least 1."""
        self._parts = [rows for rows, _ in parts]
        self._starts = [0, *accumulate(round(times * len(rows)) for rows, times in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, place: int) -> int:  # type: ignore[override]
        part = next(number for number, end in enumerate(self._starts[1:]) if place < end)
        rows, count = self._parts[part], self._starts[part + 1] - self._starts[part]
        copy, row = divmod(place - self._starts[part], len(rows))
        some = count - copy * len(rows)
        return rows[row] if some >= len(rows) else rows[row * len(rows) // some]
