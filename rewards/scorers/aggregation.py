"""Votes -> one value from 1 to 5, and how well scorers agree over many results."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from pangu_rl.records import Part, Vote
from rewards.scorers.records import PanelResult


def aggregate(votes: Sequence[Vote], how: str) -> float:
    """One value of all votes (at least one): `min_of_means` or `mean_of_means` over criteria of the mean over scorers,
    or `min_of_min`, the lowest vote.

    Example: similarity 5 and 4, hallucination 3 and 3: 3.0, 3.75 and 3.0.
    """
    by_criterion: dict[str, list[int]] = defaultdict(list)
    for vote in votes:
        by_criterion[vote.criterion].append(vote.score)
    if how == "min_of_min":
        return float(min(vote.score for vote in votes))
    means = [fmean(scores) for scores in by_criterion.values()]
    return min(means) if how == "min_of_means" else fmean(means)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two scorers' votes on the same item compare, over all pairs of scorers and all items."""

    pairs: int
    exact_share: float
    """Share of pairs with the same score."""
    mean_difference: float
    """Mean absolute difference of a pair, from 0 to 4."""


def agreement(results: Iterable[PanelResult | Part]) -> dict[str, Agreement]:
    """By criterion; a criterion that no two scorers voted on is left out."""
    differences: dict[str, list[int]] = defaultdict(list)
    for result in results:
        for one, other in itertools.combinations(result.votes, 2):
            if one.criterion == other.criterion:
                differences[one.criterion].append(abs(one.score - other.score))
    return {
        criterion: Agreement(len(found), found.count(0) / len(found), fmean(found))
        for criterion, found in differences.items()
    }
