"""Videos: when something happens, and in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.mathematics.guard import Refused
from rewards.recipe.boxed import judge_box
from rewards.rules.gold import Gold
from rewards.rules.sequence import list_key, read_list
from rewards.rules.verdict import bad_gold, unparsable, verdict

Span = tuple[Fraction, Fraction]
"""Seconds from the video's first frame, the earlier first."""
_TO = re.compile(r"(?<=[\d:s])\s*(?:\bto\b|[–—-])\s*(?=\d)")
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_SECONDS = re.compile(r"(\d{1,7}(?:\.\d{1,6})?)\s*(?:s|sec|seconds?)")
MAX_SPANS = 100


def temporal_iou(prompt: Prompt, completion: Completion, *, threshold: float = 0.5) -> Part:
    """The seconds that the boxed and the gold spans share, over those of either; 0 below `threshold`.

    A span is `[start, end]`, several are a list of them; a time is a number of seconds, `12.5s` or `1:02.5`. Spans
    count together, however they are cut. Without a threshold the whole video would earn something. Example: [2, 6] for
    a gold of [3, 7] shares 3 of 5 seconds: 0.6.
    """

    def judge(answer: str, gold: Gold) -> Part:
        try:
            wanted = read_spans(gold.text)
        except Refused as refused:
            raise bad_gold(gold, str(refused)) from None
        try:
            found = read_spans(answer)
        except Refused as refused:
            return unparsable(answer, str(refused))
        overlap = span_iou(wanted, found)
        right = overlap >= threshold
        outcome = Outcome.CORRECT if right else Outcome.INCORRECT
        detail = f"overlap {float(overlap):.3f} (0 below {threshold:g})"
        return Part(value=float(overlap) if right else 0.0, outcome=outcome, detail=detail)

    return judge_box(prompt, completion, "list", judge)


def ordering(prompt: Prompt, completion: Completion, *, partial: bool = True) -> Part:
    """1.0 for the gold's list in its order; with `partial` another order of the same things earns Kendall's tau: the
    share of its pairs that are right less the share that are wrong, at least 0.

    Example: b, a, c for a gold of a, b, c has 2 of 3 pairs right: 2/3 - 1/3 = 0.333.
    """

    def judge(answer: str, gold: Gold) -> Part:
        try:
            wanted = list_key(read_list(gold.text))
        except Refused as refused:
            raise bad_gold(gold, str(refused)) from None
        if len(wanted) < 2 or any(one == other for one, other in combinations(wanted, 2)):
            raise bad_gold(gold, "has no order: two things or more, no two alike")
        try:
            found = list_key(read_list(answer))
        except Refused as refused:
            return unparsable(answer, str(refused))
        part = verdict(found == wanted, answer, gold)
        if part.outcome is Outcome.CORRECT or not partial:
            return part
        value = max(0.0, float(kendall_tau(wanted, found)))
        return Part(value=value, outcome=part.outcome, detail=f"{part.detail}, tau {value:.3f}")

    return judge_box(prompt, completion, "list", judge)


def span_iou(wanted: Sequence[Span], found: Sequence[Span]) -> Fraction:
    """Length of the intersection of two unions of spans, over that of their union."""
    edges = sorted({edge for span in (*wanted, *found) for edge in span})
    shared = either = Fraction(0)
    for start, end in pairwise(edges):
        inside = [any(low <= start and end <= high for low, high in spans) for spans in (wanted, found)]
        shared += (end - start) * all(inside)
        either += (end - start) * any(inside)
    return shared / either


def kendall_tau(wanted: Sequence[Any], found: Sequence[Any]) -> Fraction:
    """(pairs in the wanted order - others) / all pairs; 0 where the things are not the same."""
    if len(wanted) != len(found) or any(item not in found for item in wanted):
        return Fraction(0)
    places = [found.index(item) for item in wanted]
    pairs = list(combinations(places, 2))
    return Fraction(sum(1 if first < second else -1 for first, second in pairs), len(pairs))


def read_spans(text: str) -> list[Span]:
    """
    Raises:
        Refused: no list of spans, or a span that ends before it begins.
    """
    items = read_list(_TO.sub(", ", text))
    if not items or len(items) > MAX_SPANS:
        raise Refused(f"has {len(items)} spans, must have 1 to {MAX_SPANS}")
    if not isinstance(items[0], list):
        items = [items]
    return [_span(item) for item in items]


def _span(item: Any) -> Span:
    if not isinstance(item, list) or len(item) != 2:
        raise Refused("is no [start, end] in seconds")
    start, end = map(_seconds, item)
    if not 0 <= start < end:
        raise Refused(f"has a span from {float(start):g} to {float(end):g} s")
    return start, end


def _seconds(item: Any) -> Fraction:
    if isinstance(item, Fraction):
        return item
    if isinstance(item, str) and (clock := _CLOCK.fullmatch(item.strip())):
        hours, minutes, seconds = clock.groups(default="0")
        return 3600 * Fraction(hours) + 60 * Fraction(minutes) + Fraction(seconds)
    if isinstance(item, str) and (plain := _SECONDS.fullmatch(item.strip())):
        return Fraction(plain[1])
    raise Refused(f"has {str(item)[:20]!r} where a time in seconds is expected")
