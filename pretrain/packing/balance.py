"""Packs with their visual loads -> **global batches, and each batch's split over the ranks**.

A step lasts as long as its slowest rank, so the ranks get packs that are neighbours in visual load, one row of them
after the other; a step of several rows has heavy and light ones. Which batch comes when is random: no trend runs
through training.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np


def global_batches(
    loads: np.ndarray, fills: np.ndarray, ranks: int, packs: int, key: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """(pack numbers in the order of training, those carried over) of packs with `loads` [P] and `fills` [P] tokens.

    Each run of `packs` (a multiple of `ranks`) in that order is a global batch; the last one may be shorter, and is a
    multiple of `ranks` too. Carried over are the fewest packs that let the ranks have equally many, the emptiest ones.
    `key` seeds the order.
    """
    emptiest = np.argsort(fills, kind="stable")
    carried, kept = np.split(emptiest, [len(loads) % ranks])
    rows = kept[np.argsort(-loads[kept], kind="stable")].reshape(-1, ranks)
    deep = packs // ranks
    count, short = divmod(len(rows), deep)
    # Rows of neighbours, heavy ones beside light ones; the last batch is of average rows.
    middle = slice((len(rows) - short) // 2, (len(rows) + short) // 2)
    layers = np.delete(rows, middle, axis=0).reshape(deep, count, ranks)
    layers[1::2] = layers[1::2, ::-1].copy()
    order = np.random.default_rng((*key, 2)).permutation(count)
    return np.concatenate([layers[:, order].swapaxes(0, 1).ravel(), rows[middle].ravel()]), carried


def deal(loads: np.ndarray, ranks: int, *, in_rows: bool = False) -> np.ndarray:
    """The packs of one global batch with `loads` [ranks * k] -> int64 [ranks, k], each rank's in falling load.

    The heaviest pack left goes to the least loaded rank that has room. With `in_rows` it has room once a row, so the
    k-th packs of all ranks are neighbours in load: the sum of each row's largest is then as small as it can be, which
    is what ranks wait for that meet at every pack. A pure function: every rank computes it alone.
    """
    each = len(loads) // ranks
    heaviest = np.argsort(-loads, kind="stable")
    if in_rows:
        return _in_rows(loads, heaviest.reshape(each, ranks))
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    least = [(0.0, rank) for rank in range(ranks)]
    for pack in heaviest.tolist():
        load, rank = heapq.heappop(least)
        dealt[rank].append(pack)
        if len(dealt[rank]) < each:
            heapq.heappush(least, (load + float(loads[pack]), rank))
    return np.array(dealt, dtype=np.int64).reshape(ranks, each)


def _in_rows(loads: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[k, ranks] packs in falling load -> [ranks, k]: of each row the heavier goes to the rank with less so far."""
    dealt = np.empty_like(rows.T)
    totals = np.zeros(rows.shape[1])
    for number, row in enumerate(rows):
        least = np.argsort(totals, kind="stable")
        dealt[least, number] = row
        totals[least] += loads[row]
    return dealt


def imbalance(loads: np.ndarray, ranks: int, packs: int) -> float:
    """Mean over the global batches of the largest rank's load over the mean rank's; `loads` [P] in training order.

    1 is perfect, also for a batch without pictures or a plan without batches.
    """
    ratios = [_largest_over_mean(batch[deal(batch, ranks)].sum(axis=1)) for batch in _cut(loads, packs)]
    return float(np.mean(ratios)) if ratios else 1.0


def _cut(loads: np.ndarray, packs: int) -> Iterator[np.ndarray]:
    return (loads[start : start + packs] for start in range(0, len(loads), packs))


def _largest_over_mean(loads: np.ndarray) -> float:
    mean = loads.mean()
    return float(loads.max() / mean) if mean > 0 else 1.0
