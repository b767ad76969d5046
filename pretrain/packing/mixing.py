"""Shares per source -> **which samples are drawn**, some more than once. Metadata -> rows -> packs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.errors import ConfigError
from pretrain.packing.metadata import Metadata


def draw(metadata: Metadata, usable: np.ndarray, config: PackingConfig) -> np.ndarray:
    """Rows [n] whose tokens or samples are split over the sources by `config.shares`, in no particular order.

    `config.tokens` is the size of the draw. A source that has fewer repeats, whole passes first and then a random part
    of itself; by default the draw is as large as it can be without a repetition. `usable` [N] excludes rows.

    Raises:
        ConfigError: the shares name other sources than the metadata, or ask for what is not there.
    """
    shares = config.shares
    _require_all_sources(metadata, shares)
    total = sum(shares.values())
    sizes = metadata.tokens if config.shares_by == "tokens" else np.ones_like(metadata.tokens)
    rows = {name: np.flatnonzero(usable & (metadata.source == metadata.sources.index(name))) for name in sorted(shares)}
    have = {name: int(sizes[rows[name]].sum()) for name in rows}
    wanted = {name: share / total for name, share in shares.items() if share}
    if empty := sorted(name for name in wanted if not have[name]):
        raise ConfigError(f"source {empty[0]} has a share of {shares[empty[0]]:g}, but no sample that fits: give it 0")
    size = config.tokens or min(have[name] / share for name, share in wanted.items())
    random = np.random.default_rng((config.seed, 1))
    drawn = [_take(rows[name], sizes, size * wanted[name], random) for name in sorted(wanted)]
    return np.concatenate(drawn)


def _take(rows: np.ndarray, sizes: np.ndarray, budget: float, random: np.random.Generator) -> np.ndarray:
    """All of `rows` as often as they fit into the `budget`, then a random part, to the nearest sample."""
    passes, rest = divmod(budget, sizes[rows].sum())
    shuffled = random.permutation(rows)
    ends = np.cumsum(sizes[shuffled])
    part = shuffled[: np.searchsorted(ends - sizes[shuffled] / 2, rest)]
    return np.concatenate([np.tile(rows, int(passes)), part])


def _require_all_sources(metadata: Metadata, shares: Mapping[str, float]) -> None:
    if strange := sorted(set(shares) ^ set(metadata.sources)):
        where = f"in {metadata.name} but has no share" if strange[0] in metadata.sources else f"not in {metadata.name}"
        raise ConfigError(f"source {strange[0]!r} is {where}: name every source once, with share 0 to leave it out")
