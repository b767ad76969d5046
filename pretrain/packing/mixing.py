"""Shares per source -> **which samples are drawn**, some more than once. Metadata -> rows -> packs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.errors import ConfigError
from pretrain.packing.metadata import Metadata


def draw(
    metadata: Metadata, usable: np.ndarray, config: PackingConfig, every: Mapping[str, int] | None = None
) -> np.ndarray:
    """Rows [n] whose tokens or samples are split over the sources by `config.shares`, in no particular order.

    `config.tokens` is the size of the draw. A source that has fewer repeats, whole passes first and then a random part
    of itself; by default the draw is as large as it can be without a repetition. `usable` [N] excludes rows. Of a piece
    of the metadata its part is drawn: `every` is what the usable rows of all pieces have, by source.

    Raises:
        ConfigError: the shares name other sources than the metadata, or ask for what is not there.
    """
    names = [name for name in sorted(config.shares) if config.shares[name]]
    sizes = sizes_of(metadata, config)
    source = {name: number for number, name in enumerate(metadata.sources)}
    rows = {name: np.flatnonzero(usable & (metadata.source == source.get(name, -1))) for name in names}
    have = {name: int(sizes[rows[name]].sum()) for name in names}
    budgets = _budgets(metadata.name, every or {name: have.get(name, 0) for name in metadata.sources}, config)
    part = {name: have[name] / every[name] if every else 1.0 for name in names}
    random = np.random.default_rng((config.seed, 1))
    drawn = [_take(rows[name], sizes, budgets[name] * part[name], random) for name in names if have[name]]
    # A piece may have no sample of a source with a share.
    return np.concatenate([np.empty(0, np.int64), *drawn])


def sizes_of(metadata: Metadata, config: PackingConfig) -> np.ndarray:
    """int64 [N], what the shares are of."""
    return metadata.tokens if config.shares_by == "tokens" else np.ones_like(metadata.tokens)


def _budgets(name: str, have: Mapping[str, int], config: PackingConfig) -> dict[str, float]:
    """How much of each source with a share is drawn."""
    shares, total = config.shares, sum(config.shares.values())
    _require_all_sources(name, shares, have)
    wanted = {source: share / total for source, share in shares.items() if share}
    if empty := sorted(source for source in wanted if not have[source]):
        raise ConfigError(f"source {empty[0]} has a share of {shares[empty[0]]:g}, but no sample that fits: give it 0")
    size = config.tokens or min(have[source] / share for source, share in wanted.items())
    return {source: size * share for source, share in wanted.items()}


def _take(rows: np.ndarray, sizes: np.ndarray, budget: float, random: np.random.Generator) -> np.ndarray:
    """All of `rows` as often as they fit into the `budget`, then a random part, to the nearest sample."""
    passes, rest = divmod(budget, sizes[rows].sum())
    shuffled = random.permutation(rows)
    ends = np.cumsum(sizes[shuffled])
    part = shuffled[: np.searchsorted(ends - sizes[shuffled] / 2, rest)]
    return np.concatenate([np.tile(rows, int(passes)), part])


def _require_all_sources(name: str, shares: Mapping[str, float], sources: Collection[str]) -> None:
    if strange := sorted(set(shares) ^ set(sources)):
        where = f"in {name} but has no share" if strange[0] in sources else f"not in {name}"
        raise ConfigError(f"source {strange[0]!r} is {where}: name every source once, with share 0 to leave it out")
