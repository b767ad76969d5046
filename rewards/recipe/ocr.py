"""Reading text off a picture: one minus the normalised edit distance to the gold text."""

from __future__ import annotations

import unicodedata

from rapidfuzz.distance import Levenshtein

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.recipe.boxed import judge_box
from rewards.rules.gold import Gold
from rewards.rules.verdict import bad_gold, unparsable

MAX_GOLD_CHARS = 50_000
"""A page has some thousands; the distance costs the product of both lengths."""


def ocr_edit_distance(prompt: Prompt, completion: Completion, *, threshold: float = 0.5) -> Part:
    """The similarity of the boxed text and the gold, from 0 to 1, and 0 below `threshold`.

    Case and punctuation count; runs of space are one space. Any two texts share letters, so that without the threshold
    a copy of the prompt would earn something (ANLS cuts at the same place, Biten et al. 2019).
    """

    def judge(answer: str, gold: Gold) -> Part:
        wanted = readable(gold.text)
        if not wanted or len(wanted) > MAX_GOLD_CHARS:
            raise bad_gold(gold, f"has {len(wanted)} characters to read, must have 1 to {MAX_GOLD_CHARS}")
        found = readable(answer[: 2 * MAX_GOLD_CHARS + 1])  # the rest of a megabyte cannot bring it nearer
        if not found:
            return unparsable(answer, "is empty")
        value = similarity(found, wanted, threshold)
        outcome = Outcome.CORRECT if value == 1.0 else Outcome.INCORRECT
        return Part(value=value, outcome=outcome, detail=f"similarity {value:.3f} (0 below {threshold:g})")

    return judge_box(prompt, completion, "text", judge)


def similarity(left: str, right: str, threshold: float) -> float:
    """1 - edit distance / length of the longer text, or 0 below `threshold`, found early for texts far apart."""
    return Levenshtein.normalized_similarity(left, right, score_cutoff=threshold)


def readable(text: str) -> str:
    """NFKC, without control characters, one space for many."""
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    return "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Cf", "Cs"))
