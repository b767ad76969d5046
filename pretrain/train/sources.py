"""What shares name: sources of the rows, or entries of `data.train`. Rows -> **streams, and their shares by step**."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pretrain import PretrainDataConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.errors import ConfigError


class Sources:
    """Of N rows, which stream each belongs to."""

    def __init__(self, files: RowFiles, data: PretrainDataConfig) -> None:
        self._files = files
        self.named = {name: share for name, share in data.shares.items() if share or data.end_shares.get(name)}
        """Those that are trained on at any time."""
        self._shares, self._left_out = data.shares, set(data.shares) - set(self.named)
        by_file = data.shares and isinstance(data.train, tuple) and set(data.shares) <= set(data.train)
        self._files_named = {name: files.index.under(resolve_path(name)) for name in data.train} if by_file else {}

    def of(self, row: int) -> str:
        """Under which name a row counts."""
        if not self._files_named:
            return self._files.source(row)
        return next(name for name, rows in self._files_named.items() if row in rows)

    def streams(self) -> dict[str, Sequence[int]]:
        """The rows of each stream; one of all rows without shares.

        Raises:
            ConfigError: rows that no share names, or a share of what no row has.
        """
        if not self._shares:
            return {"": range(len(self._files))}
        index = self._files.index
        there = {name: len(rows) for name, rows in self._files_named.items()} or index.sources
        if strange := [name for name in there if name not in self._shares]:
            if self._files_named:
                raise ConfigError(f"data.train has {strange[0]}, data.shares does not name it: give it a share, or 0")
            where = self._files.where(index.of_source(strange[0])[0])
            raise ConfigError(
                f"{where} has source {strange[0]!r}, which data.shares does not name: give it a share, or 0 to leave "
                "it out"
            )
        if empty := [name for name in self.named if not there.get(name)]:
            share = self._shares[empty[0]]
            raise ConfigError(f"data.shares.{empty[0]} is {share:g}, but no row of {self._files.name} has that source")
        return {name: self._files_named[name] if self._files_named else index.of_source(name) for name in self.named}


def shares_at(step: int, steps: int, data: PretrainDataConfig, names: Sequence[str]) -> dict[str, float]:
    """Of each stream at step 1, 2, ... of `steps`, adding up to 1: on a straight line from `data.shares` to
    `data.end_shares`."""
    if not data.shares:
        return dict.fromkeys(names, 1 / len(names))
    begin, end = _fractions(data.shares), _fractions(data.end_shares or data.shares)
    way = min(1.0, (step - 1) / max(1, steps - 1))
    return {name: begin[name] + way * (end[name] - begin[name]) for name in names}


def _fractions(shares: Mapping[str, float]) -> dict[str, float]:
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}
