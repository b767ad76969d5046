"""The parts that the typed rules return, with one line of detail each."""

from __future__ import annotations

from pangu_rl.records import Outcome, Part
from rewards.rules.gold import BadGold, Gold

SHOWN_CHARS = 60


def verdict(equal: bool, answer: str, gold: Gold) -> Part:
    """`correct` or `incorrect`."""
    outcome = Outcome.CORRECT if equal else Outcome.INCORRECT
    return Part(value=float(equal), outcome=outcome, detail=f"{short(answer)} against {short(gold.text)}")


def no_box() -> Part:
    """There is no answer to read; it earns 0."""
    return Part(value=0.0, outcome=Outcome.NO_BOX, detail="no complete \\boxed{} after the thinking block")


def unparsable(answer: str, why: str) -> Part:
    """The answer cannot be read; it earns 0."""
    return Part(value=0.0, outcome=Outcome.UNPARSABLE, detail=f"answer {short(answer)} {why}")


def bad_gold(gold: Gold, why: str) -> BadGold:
    """The error to raise for a gold that cannot be graded against."""
    return BadGold(f"gold {short(gold.text)} {why}")


def short(text: str) -> str:
    """`text` quoted on one line, cut after some sixty characters; lone surrogates come out escaped."""
    return repr(text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "...")
