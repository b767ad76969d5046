"""Do two hold the same weights? Their log-probs of the same tokens -> **the mean gap, within a limit or an error**."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pangu_rl.errors import WeightSyncError

Scores = Sequence[Sequence[float]]
"""Log-probs of some sequences, nats."""


def mean_gap(ours: Scores, theirs: Scores) -> float:
    """Mean |difference| over all tokens of two sets of log-probs, in nats."""
    pairs = [pair for left, right in zip(ours, theirs, strict=True) for pair in zip(left, right, strict=True)]
    return sum(abs(left - right) for left, right in pairs) / len(pairs)


def check_agreement(scores: Mapping[int, Scores], limit: float) -> None:
    """Compare the `scores` of all rollout actors, by their index, with the first one's.

    Raises:
        WeightSyncError: the mean gap exceeds `limit` nats.
    """
    first = min(scores)
    for index, found in scores.items():
        gap = mean_gap(scores[first], found)
        if not gap <= limit:
            raise WeightSyncError(
                f"rollout actors {first} and {index} differ by {gap:.3f} nats on the probe "
                f"(rollout.probe_tolerance {limit}): they do not hold the same weights"
            )
