"""The unit that prompt sources hand to the builder: one source item with every way to ask about it.

Train and held-out sets are split by item, so two wordings of one sum never stand on both sides.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["sft", "train", "heldout"]

HELDOUT_SHARE, SFT_SHARE = 0.15, 0.20


@dataclass(frozen=True, slots=True)
class Question:
    """One wording: what is asked, the gold answer, and the short answer that SFT teaches."""

    text: str
    answer: str
    response: str
    answer_type: str = "integer"


@dataclass(frozen=True, slots=True)
class Item:
    """One source item: an operand pair, a template, a packaged question."""

    task: str
    key: str
    """Decides the split. Tasks that share a key (the operand pair of a sum and of a story) share its split."""
    questions: tuple[Question, ...]

    @property
    def split(self) -> Split:
        """A function of the key alone, so that no change to another source moves an item across."""
        return split_of(self.key, HELDOUT_SHARE, SFT_SHARE)


def split_of(key: str, heldout_share: float, sft_share: float) -> Split:
    """The split of a source item by its key's digest; RL prompts (`train`) take what the two shares leave."""
    position = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
    if position < heldout_share:
        return "heldout"
    return "sft" if position < heldout_share + sft_share else "train"


def pair_key(a: int, b: int) -> str:
    """The key of an unordered operand pair, the same in every arithmetic task."""
    return f"pair:{min(a, b)},{max(a, b)}"
