"""Depths in metres against the true ones: **AbsRel and delta** (Eigen et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence


def abs_rel(found: Sequence[float], true: Sequence[float]) -> float:
    """Mean of |d - d*| / d*; lower is better. Example: 2.2 and 3.0 for 2.0 and 4.0 are (0.1 + 0.25) / 2 = 0.175."""
    return sum(abs(one - other) / other for one, other in zip(found, true, strict=True)) / len(true)


def delta(found: Sequence[float], true: Sequence[float], limit: float = 1.25) -> float:
    """Share of max(d / d*, d* / d) below `limit`; 1.25, 1.25 ** 2 and 1.25 ** 3 are usual."""
    near = (one > 0 and max(one / other, other / one) < limit for one, other in zip(found, true, strict=True))
    return sum(near) / len(true)
