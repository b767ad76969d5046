"""Scored candidates of a query -> **what is learned from them, or the reason why nothing is** (openPangu-VL 4.2).

Pure rules: the same candidates give the same choice. Of several candidates with the same score the first drawn is
taken, which prefers no length. A candidate without a score (no verdict) counts on neither side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """What became of a query."""

    SELECTED = "selected"
    TOO_EASY = "too_easy"
    """The model answers it right too often."""
    NO_VERDICT = "no_verdict"
    """No candidate has a score."""
    NOT_HARD = "not_hard"
    """Too few wrong candidates."""
    NO_CORRECT = "no_correct"
    """Hard, and no candidate is right: there is nothing to learn from."""
    NO_CHOSEN = "no_chosen"
    """No candidate is good enough to be preferred."""
    NO_REJECTED = "no_rejected"
    """No candidate is bad enough."""
    UNUSABLE = "unusable"
    """Every candidate that would do is empty, or was cut at the token limit."""
    EQUAL = "equal"
    """The two sides of the pair are the same text, differently scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One completion of a query."""

    uid: str
    text: str
    score: float | None
    """From 1 to 5; None without a verdict."""
    correct: bool = False
    """Whether the first reward function's outcome is `correct`; only difficulty asks."""
    whole: bool = True
    """It ended by itself; False when the token limit cut it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two candidates of one query."""

    chosen: Candidate
    rejected: Candidate


def select_hard(
    candidates: Sequence[Candidate], *, correct: float = 5.0, wrong_below: float = 2.0, wrong_at_least: int = 2
) -> tuple[Candidate | None, Reason]:
    """The candidate to fine-tune on: of a hard query (`wrong_at_least` scores under `wrong_below`, strictly) the first
    right one (score `correct` or more) that is whole and not empty."""
    scored = [candidate for candidate in candidates if candidate.score is not None]
    if not scored:
        return None, Reason.NO_VERDICT
    if sum(candidate.score < wrong_below for candidate in scored) < wrong_at_least:
        return None, Reason.NOT_HARD
    right = [candidate for candidate in scored if candidate.score >= correct]
    if not right:
        return None, Reason.NO_CORRECT
    usable = [candidate for candidate in right if _teachable(candidate)]
    return (usable[0], Reason.SELECTED) if usable else (None, Reason.UNUSABLE)


def select_pair(
    candidates: Sequence[Candidate], *, chosen_above: float = 4.0, rejected_below: float = 2.0
) -> tuple[Pair | None, Reason]:
    """The best candidate strictly above one bound and the worst strictly below the other.

    The chosen one must have ended by itself: preferring a cut one would teach never to stop. The rejected one may be
    cut, which is a reason to reject it; neither may be empty.
    """
    scored = [candidate for candidate in candidates if candidate.score is not None]
    if not scored:
        return None, Reason.NO_VERDICT
    good = [candidate for candidate in scored if candidate.score > chosen_above]
    bad = [candidate for candidate in scored if candidate.score < rejected_below]
    if not good or not bad:
        return None, Reason.NO_CHOSEN if not good else Reason.NO_REJECTED
    chosen = max(filter(_teachable, good), key=lambda candidate: candidate.score, default=None)
    rejected = min((c for c in bad if c.text.strip()), key=lambda candidate: candidate.score, default=None)
    if chosen is None or rejected is None:
        return None, Reason.UNUSABLE
    if chosen.text == rejected.text:
        return None, Reason.EQUAL
    return Pair(chosen, rejected), Reason.SELECTED


def pass_rate(candidates: Sequence[Candidate]) -> float | None:
    """Share of right ones among the candidates with a verdict; None without any."""
    judged = [candidate.correct for candidate in candidates if candidate.score is not None]
    return sum(judged) / len(judged) if judged else None


def select_by_difficulty(
    candidates: Sequence[Candidate], *, max_pass_rate: float = 0.75
) -> tuple[float | None, Reason]:
    """The pass rate, and whether the query is kept: at `max_pass_rate` or less."""
    rate = pass_rate(candidates)
    if rate is None:
        return None, Reason.NO_VERDICT
    return rate, Reason.SELECTED if rate <= max_pass_rate else Reason.TOO_EASY


def score_histogram(candidates: Iterable[Candidate]) -> dict[str, int]:
    """Candidates by score: `1` to `5`, each with what lies between it and the next, and `none` without a verdict."""
    counts = Counter("none" if c.score is None else str(int(c.score)) for c in candidates)
    return {name: counts[name] for name in ("1", "2", "3", "4", "5", "none")}


def _teachable(candidate: Candidate) -> bool:
    return candidate.whole and bool(candidate.text.strip())
