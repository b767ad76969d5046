"""An answer in words to a multiple choice -> **the letter that it chooses**, by VLMEvalKit's published rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

_SIGNS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST = 5
"""A letter further than this from the end is part of a sentence about the options."""
_ARTICLE = re.compile(r"\bA\b(?=\s+\w)")
"""`A` before a word. In `A dog` it names no option."""


def chosen_letter(answer: str, options: Sequence[str]) -> str | None:
    """The one letter among the answer's words, else the one option whose text stands in it; None if it chooses nothing.

    One rule is stricter than VLMEvalKit's: an `A` before a word counts where no option's text contradicts it.

    Example: of the options `a dog`, `a cat`, the answers `(B)`, `The answer is B.` and `A cat` choose B.
    """
    letters = ascii_uppercase[: len(options)]
    by_letter, by_text = _by_letter(answer, letters), _by_text(answer, options)
    if by_letter == "A" and by_text not in (None, "A") and _ARTICLE.search(answer):
        return by_text
    return by_letter or by_text


def _by_letter(answer: str, letters: str) -> str | None:
    words = answer.translate(_SIGNS).split()
    found = [letter for letter in letters if letter in words]
    if len(found) == 1 and words.index(found[0]) > len(words) - _LAST:
        return found[0]
    return None


def _by_text(answer: str, options: Sequence[str]) -> str | None:
    if len(answer) > 2 * sum(map(len, options)):
        return None
    shown = {letter: option for letter, option in zip(ascii_uppercase, options) if option.strip()}
    found = [letter for letter, option in shown.items() if option.lower() in answer.lower()]
    return found[0] if len(found) == 1 else None
