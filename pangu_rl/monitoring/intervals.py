"""Confidence intervals of an accuracy and of the difference between two accuracies on the same items."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

Z95 = 1.959963984540054
"""97.5 % point of the normal distribution: two-sided 95 %."""


def wilson(correct: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927); sound also at 0 and at `total`."""
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(gained: int, lost: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Interval of (gained - lost) / total, where `gained` items became right and `lost` became wrong.

    Wald's interval with half an item added to each of the four cells (Agresti and Min 2005, "Simple improved
    confidence intervals for comparing matched proportions"): the items that did not change carry no noise, so it is
    much tighter than the two accuracies' own intervals.
    """
    gained_, lost_, total_ = gained + 0.5, lost + 0.5, total + 2.0
    centre = (gained_ - lost_) / total_
    half = z * sqrt(gained_ + lost_ - (gained_ - lost_) ** 2 / total_) / total_
    return max(-1.0, centre - half), min(1.0, centre + half)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value of "no change" (McNemar 1947): a fair coin decides each item that changed."""
    changed = gained + lost
    tail, ways = 0, 1  # exact integers: of k changed items the binomial coefficient follows from that of k - 1
    for k in range(min(gained, lost) + 1):
        tail += ways
        ways = ways * (changed - k) // (k + 1)
    return min(1.0, 2 * tail / 2**changed)


def bootstrap(
    items: int, value: Callable[[np.ndarray], float], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of `value` (Efron 1979), which takes the indices, int64 [items], of what was drawn from
    0 to `items` with replacement. The same seed gives the same interval."""
    generator = np.random.default_rng(seed)
    values = [value(generator.integers(items, size=items)) for _ in range(draws)]
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)
