"""Metadata and settings -> **a plan**: which samples each rank trains on at each step, before any is opened."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.errors import DataError
from pretrain.packing.balance import global_batches, imbalance
from pretrain.packing.best_fit import Packs, Samples, best_fit
from pretrain.packing.metadata import Metadata
from pretrain.packing.mixing import draw

SHARD_SAMPLES = 2**20
"""Samples packed together. Shards are random parts, each as mixed as the whole, and are packed in parallel."""
LEFT_OUT = ("carried over", "longer than the context", "over the visual tokens of a pack", "not drawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Packs in the order of training. Arrays: P packs, of them the last are carried over; M memberships; L left out."""

    rows: np.ndarray
    """int64 [M], indices into the metadata, pack after pack."""
    starts: np.ndarray
    """int64 [P + 1], pack p holds `rows[starts[p] : starts[p + 1]]`."""
    tokens: np.ndarray
    """int64 [P]"""
    token_pairs: np.ndarray
    """float64 [P], pairs of causal attention: T (T + 1) / 2 of each of a pack's samples of T tokens."""
    visual_tokens: np.ndarray
    """int64 [P]"""
    visual_flops: np.ndarray
    """float64 [P]"""
    carried_over: int
    """Packs at the end that would give some ranks one more than others."""
    left_out: np.ndarray
    """int64 [L], samples that no step trains on, those of the packs carried over among them; ascending."""
    reasons: np.ndarray
    """int8 [L], index into `LEFT_OUT`."""
    fill: float
    """Tokens of all packs over what they could hold."""
    visual_imbalance: float

    @property
    def packs(self) -> int:
        """Those that are trained on."""
        return len(self.tokens) - self.carried_over


def make_plan(metadata: Metadata, config: PackingConfig, workers: int = 1) -> Plan:
    """Pack the samples of `metadata`. Deterministic, whatever the number of `workers` (processes).

    Raises:
        DataError: no sample fits, or none is drawn.
        ConfigError: shares that the metadata cannot serve.
    """
    fits = fitting(metadata, config)
    require_fitting(metadata.name, len(metadata), int(fits.sum()), int(metadata.tokens.min()), config)
    rows = draw(metadata, fits, config) if config.shares else np.flatnonzero(fits)
    require_drawn(metadata.name, len(rows), config)
    return plan_of(metadata, rows, config, (config.seed,), workers)


def require_drawn(name: str, drawn: int, config: PackingConfig) -> None:
    """
    Raises:
        DataError: the draw by shares is so small that it takes no sample.
    """
    if not drawn:
        raise DataError(f"{name}: tokens {config.tokens} draws no sample, each is longer: raise it, or leave it out")


def fitting(metadata: Metadata, config: PackingConfig) -> np.ndarray:
    """Which samples fit into a pack, bool [N]."""
    return (metadata.tokens <= config.context) & (metadata.visual_tokens <= config.visual_limit)


def require_fitting(name: str, samples: int, fitting: int, shortest: int, config: PackingConfig) -> None:
    """
    Raises:
        DataError: no sample fits.
    """
    if not fitting:
        raise DataError(
            f"{name}: none of {samples} samples fits: the shortest has {shortest} tokens, the context {config.context}"
        )


def plan_of(
    metadata: Metadata, rows: np.ndarray, config: PackingConfig, key: tuple[int, ...], workers: int = 1
) -> Plan:
    """Pack `rows` [n], indices into the metadata, some more than once; `key` seeds which samples meet and the order."""
    rows = np.random.default_rng((*key, 0)).permutation(rows)
    samples = Samples(
        tokens=metadata.tokens[rows],
        visual_tokens=metadata.visual_tokens[rows],
        visual_flops=metadata.visual_flops[rows],
    )
    packs = _pack_shards(samples, config, workers)
    trained, carried = global_batches(
        packs.sums(samples.visual_flops), packs.sums(samples.tokens), config.ranks, config.step_packs, key
    )
    packs = _reordered(packs, np.concatenate([trained, carried]))
    tokens, visual_flops = packs.sums(samples.tokens), packs.sums(samples.visual_flops)
    reasons = _reasons(metadata, config, rows[packs.members], packs.starts[len(trained)])
    left_out = np.flatnonzero(reasons >= 0)
    return Plan(
        rows=rows[packs.members],
        starts=packs.starts,
        tokens=tokens,
        token_pairs=packs.sums(samples.tokens * (samples.tokens + 1) / 2),
        visual_tokens=packs.sums(samples.visual_tokens),
        visual_flops=visual_flops,
        carried_over=len(carried),
        left_out=left_out,
        reasons=reasons[left_out],
        fill=float(tokens.sum() / (max(1, len(tokens)) * config.context)),
        visual_imbalance=imbalance(visual_flops[: len(trained)], config.ranks, config.step_packs),
    )


def _reasons(metadata: Metadata, config: PackingConfig, packed: np.ndarray, trained: int) -> np.ndarray:
    """Why each row is left out, int8 [N], -1 for those that are not: the first `trained` rows of `packed`."""
    reasons = np.full(len(metadata), LEFT_OUT.index("not drawn"), dtype=np.int8)
    reasons[metadata.visual_tokens > config.visual_limit] = LEFT_OUT.index("over the visual tokens of a pack")
    reasons[metadata.tokens > config.context] = LEFT_OUT.index("longer than the context")
    reasons[packed] = LEFT_OUT.index("carried over")
    reasons[packed[:trained]] = -1
    return reasons


def _pack_shards(samples: Samples, config: PackingConfig, workers: int) -> Packs:
    """The shards' packs, one after the other; the shards are equal slices of the samples, which are shuffled."""
    count = len(samples.tokens)
    bounds = np.linspace(0, count, -(-count // SHARD_SAMPLES) + 1).astype(np.int64)
    shards = [slice(*pair) for pair in itertools.pairwise(bounds.tolist())]
    tasks = [(_slice(samples, shard), config.context, config.visual_tokens) for shard in shards]
    members, starts = [np.empty(0, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
    for shard, packs in zip(shards, _run(tasks, workers), strict=True):
        members.append(packs.members + shard.start)
        starts.append(packs.starts[1:] + shard.start)
    return Packs(np.concatenate(members), np.concatenate(starts))


def _run(tasks: list[tuple[Samples, int, int | None]], workers: int) -> Iterator[Packs]:
    if min(workers, len(tasks)) <= 1:
        yield from (best_fit(*task) for task in tasks)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(best_fit, *zip(*tasks, strict=True))


def _slice(samples: Samples, part: slice) -> Samples:
    return Samples(
        tokens=samples.tokens[part], visual_tokens=samples.visual_tokens[part], visual_flops=samples.visual_flops[part]
    )


def _reordered(packs: Packs, order: np.ndarray) -> Packs:
    """The same packs, in `order` [P]."""
    sizes = np.diff(packs.starts)[order]
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
    within = np.arange(len(packs.members)) - np.repeat(starts[:-1], sizes)
    return Packs(packs.members[np.repeat(packs.starts[:-1][order], sizes) + within], starts)
